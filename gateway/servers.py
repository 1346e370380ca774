"""A Triton server as the gateway's backends have it, and what changes of it in the running process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Mapping, Sequence, Tuple

from gateway.options import Triton

NOWHERE = "0.0.0.0"  # noqa: S104  (the address of a slot that is free)
READY, DRAIN, MAINT = "ready", "drain", "maint"
_DEFAULT_ID = "triton"  # what Triton calls itself without TRITON_ID


@dataclass(frozen=True)
class Server:
    """One server of every backend.

    Attributes:
        name: in the configuration.
        host, http, grpc: where it is; ``host`` is NOWHERE in a free slot.
        slot: whether its address and state change in the running process.
        state: READY, DRAIN or MAINT.
        models: what a slot's server was ready for; it gets no requests of another model.
        id: what it calls itself; "" while it has not answered.
    """

    name: str
    host: str
    http: int
    grpc: int
    slot: bool = False
    state: str = READY
    models: FrozenSet[str] = frozenset()
    id: str = ""

    def takes(self, model: str) -> str:
        """Its state for a model's requests, or for those of no model ("")."""
        if self.state == READY and self.slot and not (model in self.models if model else self.id):
            return MAINT
        return self.state

    @property
    def address(self) -> str:
        """The host as it is written before a port."""
        return f"[{self.host}]" if ":" in self.host.strip("[]") and self.host[0] != "[" else self.host

    @property
    def place(self) -> str:
        """As TRITON_SERVERS has it."""
        return f"{self.address}:{self.http}:{self.grpc}"

    @property
    def shown(self) -> str:
        """Its name in the access log: Triton's id, else its address, else its name in the configuration."""
        if self.id and self.id != _DEFAULT_ID:
            return self.id
        return self.host if self.slot else self.name


@dataclass(frozen=True)
class Line:
    """What one backend's server is in the running process."""

    host: str
    state: str
    weight: int


def fixed(given: Iterable[Triton]) -> List[Server]:
    """The servers that stay where they are."""
    return [Server(f"triton{n}", s.host, s.http, s.grpc) for n, s in enumerate(given, 1)]


def names(servers: Iterable[Server]) -> List[Tuple[str, str]]:
    """Rows of the map by which the access log names servers, for those that it calls otherwise."""
    return [(s.name, s.shown) for s in servers if s.shown not in (s.name, NOWHERE)]


def lines(
    models: Iterable[str], servers: Sequence[Server], without_weight: Mapping[str, FrozenSet[str]]
) -> Dict[str, Line]:
    """What all servers are to be, by backend and server as the admin socket names them."""
    return {
        f"{protocol}{f'_{model}' if model else ''}/{s.name}": Line(
            s.host, s.takes(model), int(s.name not in without_weight.get(model, ()))
        )
        for model in ("", *models)
        for protocol in ("http", "grpc")
        for s in servers
    }


def commands(before: Mapping[str, Line], now: Mapping[str, Line]) -> List[str]:
    """What to tell the running process, which is as ``before``, to be as ``now``."""
    told = []
    for name, line in now.items():
        was = before[name]
        if line.host not in (was.host, NOWHERE):
            told.append(f"set server {name} addr {line.host}")
        if line.weight != was.weight:
            told.append(f"set server {name} weight {line.weight}")
        if line.state != was.state:
            told.append(f"set server {name} state {line.state}")
    return told
