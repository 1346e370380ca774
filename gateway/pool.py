"""The servers of each backend: the fixed ones, and slots that others take and leave in the running process.

A server that comes gets a free slot. One that has gone from its name drains: it gets no new requests, and
its slot is free when nothing is on its way any more. More servers than slots is a reload with twice as many.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Dict, Iterable, List, Optional, Sequence

from gateway.configuration.limits import SERVER_SECS
from gateway.discovery import Found, Known
from gateway.options import Triton
from gateway.servers import DRAIN, MAINT, NOWHERE, READY, Server, fixed

_LEAST = 8  # slots of a name


@dataclass
class _Slot:
    host: str = ""  # empty where it is free
    leaves: Optional[float] = None  # since when it drains, on a monotonic clock


class Pool:
    """All servers, those that change included."""

    def __init__(self, given: Sequence[Triton]) -> None:
        self._fixed = [s for s in given if not s.dns]
        self._slots: Dict[Triton, List[_Slot]] = {s: [_Slot() for _ in range(_LEAST)] for s in given if s.dns}
        self.servers: List[Server] = []
        self.update(Found(), ())

    def update(self, found: Found, busy: Iterable[str], now: Optional[float] = None) -> None:
        """Take what was found; ``busy`` names the servers that still have requests in hand."""
        now = time.monotonic() if now is None else now
        still = set(busy)
        for name, hosts in found.addresses.items():
            slots = self._slots[name]
            for number, slot in enumerate(slots):
                if slot.host in hosts:
                    slot.leaves = None
                elif slot.host and slot.leaves is None:
                    slot.leaves = now
                elif slot.leaves is not None:
                    # A look at what is in hand may come between its choice and its first byte.
                    drained = now - slot.leaves > 2 and self._name(name, number) not in still
                    if drained or now - slot.leaves > SERVER_SECS:
                        slots[number] = _Slot()
            taken = {slot.host for slot in slots}
            for host in (h for h in hosts if h not in taken):
                free = next((slot for slot in slots if not slot.host), None)
                if free is None:
                    free = _Slot()
                    slots += [free, *(_Slot() for _ in range(len(slots) - 1))]
                free.host = host
        self.servers = [*self._fixed_servers(found), *self._slot_servers(found)]

    def draining(self) -> bool:
        """Whether a server is leaving, so that it matters what is in hand."""
        return any(slot.leaves is not None for slots in self._slots.values() for slot in slots)

    def blank(self) -> List[Server]:
        """The servers without what changes in the running process: other ones make a reload."""
        return [
            Server(s.name, NOWHERE, s.http, s.grpc, slot=True, state=MAINT) if s.slot else replace(s, id="")
            for s in self.servers
        ]

    def _fixed_servers(self, found: Found) -> List[Server]:
        return [replace(s, id=found.servers.get((s.host, s.http), Known()).id) for s in fixed(self._fixed)]

    def _slot_servers(self, found: Found) -> List[Server]:
        made = []
        for name, slots in self._slots.items():
            for number, slot in enumerate(slots):
                known = found.servers.get((slot.host, name.http), Known())
                state = MAINT if not slot.host else READY if slot.leaves is None else DRAIN
                made.append(
                    Server(
                        self._name(name, number), slot.host or NOWHERE, name.http, name.grpc,
                        slot=True, state=state, models=known.ready, id=known.id,
                    )
                )  # fmt: skip
        return made

    def _name(self, name: Triton, number: int) -> str:
        return f"dns{list(self._slots).index(name) + 1}_{number + 1}"
