"""Several Tritons behind one name: the same ports at an address of its own in 127.0.0.0/8 for each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.stack import ROOT, Stack, free_ports

NAME = "triton.test"


class Nodes:
    """Native stacks called node-a, node-b, ..., each with a models volume of its own.

    Attributes:
        stacks: by node; none of them runs at first.
        specs: what each serves.
    """

    def __init__(self, folder: Path, names: Sequence[str] = ("node-a", "node-b"), **environ: str) -> None:
        self._file = folder / "dns"
        self.http, self.grpc, metrics = free_ports(3)
        self.stacks: dict[str, Stack] = {}
        self.addresses: dict[str, str] = {}
        for number, name in enumerate(names, 2):
            stack = Stack(folder / name, TRITON_ID=name, BIND_ADDRESS=f"127.0.0.{number}", **environ)
            stack.http, stack.grpc, stack.metrics = self.http, self.grpc, metrics
            ports = {"HTTP_PORT": self.http, "GRPC_PORT": self.grpc, "METRICS_PORT": metrics}
            stack.env.update({key: str(port) for key, port in ports.items()})
            self.stacks[name] = stack
            self.addresses[name] = f"127.0.0.{number}"
        self.specs: dict[str, Path] = {}
        self.named()

    def up(self, node: str) -> None:
        """Start a node's Triton, or start it again."""
        self.stacks[node].up(self.specs[node])

    def named(self, *nodes: str) -> None:
        """From now on the name has these nodes' addresses."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(" ".join([NAME, *(self.addresses[node] for node in nodes)]) + "\n")
        fresh.replace(self._file)

    @property
    def environ(self) -> dict[str, str]:
        """For a gateway that finds them by their name."""
        path = os.pathsep.join([str(ROOT / "tests" / "fakes" / "dns"), str(ROOT)])
        return {
            "TRITON_SERVERS": f"dns:{NAME}:{self.http}:{self.grpc}",
            "PYTHONPATH": path,
            "FAKE_DNS": str(self._file),
        }


@contextmanager
def running(folder: Path, specs: dict[str, Path], **environ: Any) -> Iterator[Nodes]:
    """Nodes that serve these specs, by node."""
    nodes = Nodes(folder, tuple(specs), **environ)
    nodes.specs = specs
    try:
        for name in specs:
            nodes.up(name)
        yield nodes
    finally:
        for stack in nodes.stacks.values():
            stack.kill()
