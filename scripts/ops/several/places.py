"""Where one of several servers is, for the client's commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from ops.runtimes.server import Server
from ops.settings import Settings


@dataclass(frozen=True)
class Place:
    """A server by its name and its ports; ``name`` is empty for one that is alone."""

    name: str
    host: str
    http: int
    grpc: int
    metrics: int

    @classmethod
    def of(cls, name: str, settings: Settings) -> Place:
        """A process of this machine."""
        return cls(name, settings.host, settings.http_port, settings.grpc_port, settings.metrics_port)

    @property
    def options(self) -> List[str]:
        """The client's options that name it; none for one that is alone, which the client finds by itself."""
        if not self.name:
            return []
        ports = [("http", self.http), ("grpc", self.grpc), ("metrics", self.metrics)]
        return [f"--host={self.host}", *(f"--{name}-port={port}" for name, port in ports)]

    @property
    def server(self) -> Server:
        """Its HTTP endpoint."""
        return Server(self.host, self.http)

    @property
    def triton(self) -> str:
        """As TRITON_SERVERS has it."""
        return f"{self.host}:{self.http}:{self.grpc}"
