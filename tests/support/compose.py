"""The stack as its users run it with Docker: `docker compose`, in a project of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ops.runtimes.server import Server

from support.stack import ROOT, free_ports

CPU = "compose.yaml:compose.cpu.yaml"


def docker(
    *args: str | Path, env: dict[str, str] | None = None, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run ``docker ARGS`` in the repository; never raises for an exit code."""
    return subprocess.run(
        ["docker", *map(str, args)],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def must(done: subprocess.CompletedProcess[str]) -> str:
    """What a command printed on standard output; fails the test with all it said when it failed."""
    assert done.returncode == 0, f"{done.args}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Project:
    """A Compose project on free ports, on the CPU unless told otherwise; ``remove`` when done.

    Args:
        specs: the folder that the builder sees as specs/.
        models: what MODELS says.
    """

    def __init__(
        self, *, specs: Path | None = None, models: str = "specs/scale.yaml", **environ: str
    ) -> None:
        self.name = f"tt-test-{uuid.uuid4().hex[:8]}"
        self.http, self.grpc, self.metrics = free_ports(3)
        knobs = {
            line.split("=")[0] for line in (ROOT / ".env").read_text().splitlines() if line[:1].isalpha()
        } - {"VENVS_DIR"}
        self.env = {
            # The bases and the environments stay the machine's; all else is the test's or the default.
            **{k: v for k, v in os.environ.items() if k.endswith("_IMAGE") or k not in knobs},
            "COMPOSE_FILE": CPU,
            "COMPOSE_PROJECT_NAME": self.name,
            "HTTP_PORT": str(self.http),
            "GRPC_PORT": str(self.grpc),
            "METRICS_PORT": str(self.metrics),
            "POLL_SECS": "1",
            "MODELS": models,
            **({"SPECS_DIR": str(specs)} if specs else {}),
            **environ,
        }

    def compose(
        self, *args: str | Path, timeout: float = 600, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose ARGS`` for this project."""
        return docker("compose", *args, env={**self.env, **environ}, timeout=timeout)

    def script(self, name: str, *args: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run ``./scripts/NAME ARGS`` for this project."""
        return subprocess.run(
            [str(ROOT / "scripts" / name), *map(str, args)],
            env={**self.env, **environ},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    def container(self, service: str) -> str:
        """The name of a service's container."""
        return f"{self.name}-{service}-1"

    def state(self, service: str) -> dict[str, Any]:
        """Docker's State of a service's container; empty when there is none."""
        done = docker("inspect", "--format", "{{json .State}}", self.container(service))
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def health(self) -> str:
        """The server's health: starting, healthy or unhealthy; empty when it does not run."""
        state = self.state("triton")
        return str(state["Health"]["Status"]) if state.get("Running") else ""

    def exit_code(self, service: str, seconds: float = 60) -> int:
        """The exit code of a one-shot, once it has ended."""
        wait_for(lambda: self.state(service).get("Status") == "exited", seconds, f"{service} to end")
        return int(self.state(service)["ExitCode"])

    def logs(self, service: str) -> str:
        """What a service's container wrote."""
        done = docker("logs", self.container(service))
        return done.stdout + done.stderr

    def inside(self, service: str, code: str) -> subprocess.CompletedProcess[str]:
        """Run Python in a fresh container of ``service``, hardened as the service is."""
        return self.compose("run", "--rm", "--no-deps", "-T", "--entrypoint", "python3", service, "-c", code)

    def snapshot(self) -> dict[str, Any]:
        """The models on the volume: live version, releases, manifest."""
        module = ["python3", "-m", "models_volume", "snapshot", "/models"]
        if self.state("triton").get("Running"):
            argv = ["exec", "--workdir", "/opt/triton", self.container("triton"), *module]
            return dict(json.loads(must(docker(*argv))))
        run = ["run", "--rm", "--no-deps", "-T", "--entrypoint"]
        return dict(json.loads(must(self.compose(*run, module[0], "client", *module[1:]))))

    def ready(self, model: str, version: int) -> bool:
        """Whether that version answers on the published HTTP port."""
        return Server("127.0.0.1", self.http).ready(model, version)

    def one_offs(self) -> list[str]:
        """The names of its one-off containers, running or not."""
        labels = (f"project={self.name}", "oneoff=True")
        filters = [word for label in labels for word in ("--filter", f"label=com.docker.compose.{label}")]
        return must(docker("ps", "--all", *filters, "--format", "{{.Names}}")).split()

    def remove(self) -> None:
        """Containers, at once, as nobody waits for their orderly end; network and volume."""
        must(self.compose("down", "--volumes", "--remove-orphans", "--timeout", "0", COMPOSE_PROFILES="*"))


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Wait until ``condition`` holds; the seconds it took. Fails the test after ``seconds``."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"waited {seconds} s for {what}"
        time.sleep(0.2)
    return time.monotonic() - began


def readable(folder: Path) -> Path:
    """``folder``, opened to the containers' user."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder
