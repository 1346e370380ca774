"""The stack as an operator runs it: the scripts, on ports and a models volume of the test's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


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
            **environ,
        }

    def run(self, script: str, *args: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run ``./scripts/<script>`` and return what it did; never raises for an exit code."""
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

    def status(self) -> dict[str, Any]:
        """``status --json``."""
        data: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return data

    def stop(self) -> None:
        """``down``; fails the test when the server had to be killed."""
        done = self.run("down")
        assert done.returncode == 0, done.stdout + done.stderr
