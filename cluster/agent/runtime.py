"""The node's servers as ``ops.rollout.Rollout`` wants them: it proves on each, and starts and stops none."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any, Callable

from ops.errors import OpsError
from ops.runtimes import driver
from ops.runtimes.server import Server
from ops.settings import ROOT, Settings
from ops.several.places import Place

from models_volume import snapshot

_MODULES = {"builder": "builder", "client": "triton_stack_client", "cluster": "cluster"}


class NodeRuntime:
    """What a rollout needs of a runtime.

    Args:
        find: every server of this node, looked up anew.
        device: "gpu" or "cpu".
    """

    name = "agent"

    def __init__(self, settings: Settings, device: str, find: Callable[[], list[Place]]) -> None:
        self._settings = settings
        self._find = find
        self.device = device

    @property
    def poll_secs(self) -> int:
        """Seconds between two looks of the servers at the models volume."""
        return self._settings.poll_secs

    @property
    def server(self) -> Server:
        """The first server's HTTP endpoint."""
        places = self.places()
        return places[0].server

    def places(self) -> list[Place]:
        """Every server; raises OpsError where there is none: nothing would be proven."""
        found = self._find()
        if not found:
            raise OpsError("no Triton server of this node is there", remedy="is Triton running?")
        return found

    def missing(self) -> list[str]:
        """Servers that do not answer."""
        return [place.name for place in self._find() if place.server.metadata() is None]

    def start(self) -> None:
        """Somebody else starts the servers; raises OpsError."""
        raise OpsError("the agent starts no server")

    def status(self) -> dict[str, Any]:
        """Only what a rollout asks: whether servers run."""
        places = self._find()
        running = bool(places) and all(place.server.metadata() is not None for place in places)
        return {"server": {"state": "running" if running else "not answering"}}

    def log_tail(self) -> list[str]:
        """The servers' logs are their own."""
        return []

    def snapshot(self) -> dict[str, snapshot.Model]:
        """Every model on the models volume."""
        return snapshot.snapshot(self._settings.models_dir)

    def ask(self, part: str, args: list[str]) -> tuple[int, str]:
        """Run ``python -m PART ARGS``; its exit code and standard output."""
        return self.follow(part, args, lambda: None)

    def follow(self, part: str, args: list[str], beat: Callable[[], None]) -> tuple[int, str]:
        """``ask``, with ``beat`` called about once a second meanwhile. It ends with this process."""
        with driver.leash() as stdin:
            child = subprocess.Popen(
                [sys.executable, "-m", _MODULES[part], *args],
                cwd=ROOT,
                env={**self._settings.python_environment(), **driver.LEASH},
                stdin=stdin,
                stdout=subprocess.PIPE,
                text=True,
            )
            try:
                while True:
                    try:
                        out, _ = child.communicate(timeout=1)
                    except subprocess.TimeoutExpired:
                        beat()
                    else:
                        return child.returncode, out
            except BaseException:
                _end(child)
                raise


def _end(child: subprocess.Popen[str]) -> None:
    """SIGTERM, and SIGKILL after five seconds."""
    child.terminate()
    end = time.monotonic() + 5
    while child.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    if child.poll() is None:
        child.kill()
    child.wait()
