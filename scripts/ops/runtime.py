"""The two ways to run behind one interface: what ``up``, ``down`` and ``status`` drive."""

from __future__ import annotations

from typing import Any, Dict, List, Protocol, Tuple

from ops import compose, environments, volume
from ops.compose import Compose
from ops.errors import OpsError
from ops.native import Native
from ops.server import Server
from ops.settings import Settings

RUNTIMES = ("auto", "docker", "native")


class Runtime(Protocol):
    """Builds, serves and tests, with processes of this machine or with containers.

    Attributes:
        name: "native" or "docker".
        device: "gpu" or "cpu".
        server: Triton's HTTP endpoint.
    """

    name: str
    device: str
    server: Server

    def prepare(self) -> None:
        """Make environments or images; raises OpsError."""

    def check_ports(self) -> None:
        """Raise OpsError when a port is taken by somebody else than our running server."""

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers; raises OpsError."""

    def serve(self) -> None:
        """Wait until every live model answers; raises OpsError."""

    def smoke(self) -> int:
        """Run the smoke test; its exit code."""

    def client(self, args: List[str]) -> int:
        """Run ``python -m client ARGS`` against the server; its exit code."""

    def ask(self, part: str, args: List[str]) -> Tuple[int, str]:
        """Run ``python -m PART ARGS`` ("builder" or "client"); its exit code and standard output."""

    def stop(self) -> str:
        """Stop what `up` started; says what was done."""

    def status(self) -> Dict[str, Any]:
        """Runtime, device and server, for `status`."""

    def words(self) -> List[str]:
        """The server's own words: the last lines of its log; none where it cannot be read. Never raises."""

    def snapshot(self) -> Dict[str, volume.Model]:
        """Every model on the models volume."""


def create(settings: Settings, runtime: str, device: str, *, setup: bool) -> Runtime:
    """The runtime called ``runtime`` ("docker" or "native")."""
    kind = Compose if runtime == "docker" else Native
    return kind(settings, device, setup=setup)


def current(settings: Settings, runtime: str = "auto") -> Runtime:
    """The runtime that serves; where neither does, the one that has something published.

    Raises:
        OpsError: ``runtime`` is "docker" and no engine answers.
    """
    # A stopped stack of a machine that has no environments of ours was made with --no-setup.
    native = Native(settings, "cpu", setup=environments.python("builder").exists())
    running = native.process.state()
    if running is not None:
        native = Native(settings, running["device"], setup=running.get("setup", True))
    if runtime == "native" or (runtime == "auto" and running is not None):
        return native
    found = compose.traces(settings)
    if runtime == "docker" and found is None:
        raise OpsError("no Docker Engine answers", remedy="./scripts/doctor")
    if runtime == "docker" or (found and (found.containers or (found.volume and not native.snapshot()))):
        return Compose(settings, compose.default_device(settings), setup=True)
    return native
