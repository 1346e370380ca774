"""The stack as an operator runs it: the scripts, on ports and a models volume of the test's own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from ops.runtimes.process import ServerProcess

from triton.cpu import leftovers

ROOT = Path(__file__).resolve().parents[2]
# For a test that starts the builder or the client itself: the folders that hold their packages.
PACKAGES = os.pathsep.join([str(ROOT), str(ROOT / "client")])


def free_ports(count: int) -> list[int]:
    """TCP ports that nobody listens on just now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Stack:
    """Native, on the CPU unless told otherwise; ``stop`` when done."""

    def __init__(self, models_dir: Path, *, poll_secs: int = 1, **environ: str) -> None:
        self.models_dir = models_dir
        self.http, self.grpc, self.metrics = free_ports(3)
        self.env = {
            **os.environ,
            "MODELS_DIR": str(models_dir),
            "HTTP_PORT": str(self.http),
            "GRPC_PORT": str(self.grpc),
            "METRICS_PORT": str(self.metrics),
            "POLL_SECS": str(poll_secs),
            # A server whose model has died waits for it this long when it is told to stop.
            "EXIT_TIMEOUT_SECS": "5",
            **environ,
        }

    def run(self, script: str, *args: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run ``./scripts/<script>`` and return what it did; never raises for an exit code."""
        if script in ("doctor", "down", "prune", "redeploy", "releases", "retire", "rollback", "status"):
            args = ("--runtime", "native", *args)  # whatever a Docker Engine on this machine may be doing
        return subprocess.run(
            [str(ROOT / "scripts" / script), *map(str, args)],
            env=self.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def up(self, *specs: str | Path, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """``up`` with these specs; fails the test with its output when it does."""
        done = self.run("up", "--runtime", "native", "--device", "cpu", *options, "--model", *specs)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def key(self, name: str) -> str:
        """A new API key, once the running gateway takes it: that may last a second."""
        key = self.run("keys", "add", name).stdout.strip()
        ca = self.models_dir / "run" / "gateway" / "certificate.pem"
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.env['GATEWAY_PORT']}/v2/health/live",
            headers={"Authorization": f"Bearer {key}"},
        )
        context, end = ssl.create_default_context(cafile=str(ca)), time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen(request, timeout=5, context=context):
                    return key
            except urllib.error.HTTPError as e:
                if e.code != 401 or time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def status(self) -> dict[str, Any]:
        """``status --json``."""
        data: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return data

    def log(self, lines: int = 80) -> str:
        """The end of the server's log; empty before its first start."""
        path = self.models_dir / "run" / "triton.log"
        return "\n".join(path.read_text("utf-8", "replace").splitlines()[-lines:]) if path.exists() else ""

    def kill(self) -> None:
        """End the server at once, with what that leaves behind: seconds faster than its orderly end."""
        state = ServerProcess(self.models_dir / "run").state()
        if state is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(state["pid"], signal.SIGKILL)
            maps = Path("/proc") / str(state["pid"]) / "maps"
            with contextlib.suppress(OSError):
                while maps.read_text():  # until the kernel has let go of its memory
                    time.sleep(0.01)
            leftovers.remove(self.models_dir / "run" / "backends")

    def stop(self) -> None:
        """``down``; fails the test when the server had to be killed."""
        done = self.run("down")
        assert done.returncode == 0, done.stdout + done.stderr


class Load:
    """Clients on the ``scale`` model, HTTP and gRPC, in processes of their own (load.py).

    A context manager; ``result`` holds the sum of their counts afterwards. ``through``: a gateway's
    certificate file and an API key, where the ports (or host:port) are a gateway's. ``pause``: seconds
    between two requests of a client, which leave something of the machine to what is tested.
    """

    def __init__(
        self,
        http: int | str,
        grpc: int | str,
        models_dir: Path,
        clients: int = 8,
        through: tuple[Path, str] | tuple[()] = (),
        pause: float = 0.0,
    ) -> None:
        python = Path(os.environ.get("VENVS_DIR") or ROOT / ".venvs") / "tests" / "bin" / "python3"
        self._argv = [
            [
                str(python),
                str(ROOT / "tests/support/load.py"),
                protocol,
                str(port),
                str(models_dir),
                str(clients),
                str(pause),
                *map(str, through),
            ]
            for protocol, port in (("http", http), ("grpc", grpc))
        ]
        self._processes: list[subprocess.Popen[str]] = []
        self.result: dict[str, Any] = {}

    def __enter__(self) -> Load:
        self._processes = [subprocess.Popen(a, stdout=subprocess.PIPE, text=True) for a in self._argv]
        for process in self._processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
        parts = [json.loads(process.communicate(timeout=60)[0]) for process in self._processes]
        self.result = {
            **{key: sum(p[key] for p in parts) for key in ("requests", "failed", "wrong")},
            "versions": sorted({v for p in parts for v in p["versions"]}, key=int),
            "errors": [e for p in parts for e in p["errors"]],
        }
        print(self.result)

    def assert_clean(self, at_least: int) -> None:
        """No request failed, no answer was wrong, and there were enough of them to tell."""
        assert self.result["failed"] == 0, self.result
        assert self.result["wrong"] == 0, self.result
        assert self.result["requests"] >= at_least, self.result
