"""Which Triton servers there are, what they call themselves, and which models they have.

A thread of its own asks, since a name server or a Triton may take seconds to answer. Names are looked up
every two seconds. A name that cannot be looked up keeps its addresses: the checks tell which of them work.
An address has gone when two look-ups in a row lack it; the second one comes at once.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Iterable, List, Mapping, Sequence, Set, Tuple

from gateway.options import Triton

_LOOK_SECS = 2.0  # between two look-ups of a name
_TICK_SECS = 0.5  # between two looks at what a new server has loaded
_ID_SECS = 5.0  # between two questions for a server's id: another one may have come to its address
_ANSWER_SECS = 2.0  # for a server to answer
_AT_ONCE = 16  # servers that are asked at the same time
Place = Tuple[str, int]  # a host or an address, and the port of HTTP


@dataclass(frozen=True)
class Known:
    """What a server has said: its id ("" before its first answer), and the models that it was ready for."""

    id: str = ""
    ready: FrozenSet[str] = frozenset()


@dataclass(frozen=True)
class Found:
    """One look's result: the addresses of each name, in an order that lasts, and what each server says."""

    addresses: Mapping[Triton, Tuple[str, ...]] = field(default_factory=dict)
    servers: Mapping[Place, Known] = field(default_factory=dict)


class Discovery:
    """Looks at ``servers`` until the process ends.

    Attributes:
        found: the newest result; replaced, never changed.
        models: those that new servers are asked for; set by the user.
        problems: names that cannot be looked up, and why.
    """

    def __init__(self, servers: Sequence[Triton]) -> None:
        self._servers = servers
        self._absent: Set[Tuple[Triton, str]] = set()
        self._asked: Dict[Place, float] = {}
        self._looked = 0.0
        self.found = Found()
        self.models: FrozenSet[str] = frozenset()
        self.problems: Dict[str, str] = {}

    def start(self) -> None:
        """Go on looking beside everything else."""
        threading.Thread(target=self._run, name="discovery", daemon=True).start()

    def _run(self) -> None:
        while True:
            time.sleep(_TICK_SECS)
            self.look()

    def look(self) -> None:
        """One look; takes as long as the slowest server takes to answer."""
        addresses = self.found.addresses
        # A server that leaves answers only a while longer: what is missing is looked for at once again.
        if not addresses or self._absent or time.monotonic() - self._looked >= _LOOK_SECS:
            self._looked = time.monotonic()
            addresses = {s: self._resolved(s) for s in self._servers if s.dns}
        places: List[Place] = [(s.host, s.http) for s in self._servers if not s.dns]
        new: Set[Place] = set()  # what is not used for a model before it is ready for it
        for server, hosts in addresses.items():
            new.update((host, server.http) for host in hosts)
        places += sorted(new)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            known = list(pool.map(lambda place: self._known(place, wait=place in new), places))
        self._asked = {place: self._asked[place] for place in places if place in self._asked}
        self.found = Found(addresses, dict(zip(places, known)))

    def _resolved(self, name: Triton) -> Tuple[str, ...]:
        before = self.found.addresses.get(name, ())
        try:
            now = _looked_up(name.host)
        except (OSError, UnicodeError) as e:
            self.problems[name.host] = str(e)
            return before
        self.problems.pop(name.host, None)
        lasting = []
        for address in before:
            if address in now:
                self._absent.discard((name, address))
            elif (name, address) in self._absent:
                self._absent.discard((name, address))
                continue
            else:
                self._absent.add((name, address))
            lasting.append(address)
        return (*lasting, *(address for address in now if address not in before))

    def _known(self, place: Place, *, wait: bool) -> Known:
        known = self.found.servers.get(place, Known())
        host, port = place
        if not known.id or time.monotonic() - self._asked.get(place, 0) > _ID_SECS:
            self._asked[place] = time.monotonic()
            status, body = _get(host, port, "/v2")
            try:
                name = str(json.loads(body)["name"]) if status == http.client.OK else known.id
            except (ValueError, KeyError, TypeError):
                name = known.id
            if name != known.id:  # another server: what was known is of no use
                known = Known(name)
        missing = self.models - known.ready if wait and known.id else ()
        return Known(known.id, known.ready & self.models | _ready(host, port, missing))


def _looked_up(host: str) -> List[str]:
    """All addresses of a name; raises OSError or UnicodeError."""
    return sorted({str(e[4][0]) for e in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})


def _ready(host: str, port: int, models: Iterable[str]) -> FrozenSet[str]:
    return frozenset(m for m in models if _get(host, port, f"/v2/models/{m}/ready")[0] == http.client.OK)


def _get(host: str, port: int, path: str) -> Tuple[int, bytes]:
    """Status and body; 0 where nobody answers."""
    connection = http.client.HTTPConnection(host.strip("[]"), port, timeout=_ANSWER_SECS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(65536)
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()
