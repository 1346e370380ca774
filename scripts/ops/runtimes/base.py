"""The two ways to run behind one interface: what ``up``, ``down`` and ``status`` drive."""

from __future__ import annotations

from typing import Any, ContextManager, Dict, List, Optional, Protocol, Tuple

from models_volume import snapshot
from ops.runtimes.server import Server
from ops.several.places import Place


class Runtime(Protocol):
    """Builds, serves and tests, with processes of this machine or with containers.

    Attributes:
        name: "native" or "docker".
        device: "gpu" or "cpu".
        server: Triton's HTTP endpoint.
        poll_secs: seconds between two looks of the server at the models volume, as it was started.
    """

    name: str
    server: Server

    @property
    def device(self) -> str:
        """See above."""

    @property
    def poll_secs(self) -> int:
        """See above."""

    @property
    def setup(self) -> bool:
        """Whether programs on this machine run in environments of ours, and not by the given interpreter."""

    def python(self, part: str) -> str:
        """The interpreter for such a program, of the part's environment."""

    def places(self) -> List[Place]:
        """Where every server is: with TRITON_COUNT there are several."""

    def missing(self) -> List[str]:
        """The servers that do not answer, with their state, where there are several."""

    def follow(self) -> None:
        """Take the address of the server that runs, wherever the one who started it got it from."""

    def prepare(self) -> None:
        """Make environments or images; raises OpsError."""

    def check_ports(self) -> None:
        """Raise OpsError when a port is taken by somebody else than our running server."""

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers; raises OpsError."""

    def serve(self) -> None:
        """Wait until every live model answers; raises OpsError."""

    def serve_beside(self) -> None:
        """Start what the profiles ask for, and wait until it is ready; raises OpsError."""

    def smoke(self) -> int:
        """Run the smoke test; its exit code."""

    def client(self, args: List[str]) -> int:
        """Run ``python -m triton_stack_client ARGS`` against the server; its exit code."""

    def ask(self, part: str, args: List[str]) -> Tuple[int, str]:
        """Run ``python -m PART ARGS`` (builder, client or cluster); its exit code and standard output."""

    def stop(self) -> str:
        """Stop what `up` started; says what was done."""

    def status(self) -> Dict[str, Any]:
        """Runtime, device and server, for `status`."""

    def log_tail(self) -> List[str]:
        """The last lines of the server's log; none where it cannot be read. Never raises."""

    def client_environment(self, model: Optional[str]) -> ContextManager[Dict[str, str]]:
        """What the client's programs on this machine need besides the settings, to work with ``model``'s live
        release (None: with everything that is live); raises OpsError when it cannot be had."""

    def snapshot(self) -> Dict[str, snapshot.Model]:
        """Every model on the models volume."""
