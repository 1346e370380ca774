"""The stack as containers: compose.yaml, with compose.cpu.yaml on top where there is no GPU."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from models_volume import snapshot
from ops import console, registry_access
from ops.checks.ports import port_problem
from ops.errors import OpsError
from ops.runtimes import build_secrets, environments
from ops.runtimes.docker import sdk, volume_copy
from ops.runtimes.docker.mounted_files import outside
from ops.runtimes.docker.one_offs import OneOffs
from ops.runtimes.docker.project import PORTS, SERVICE, Project
from ops.runtimes.server import Server, explained
from ops.services import containers, pulled
from ops.settings import ROOT, Settings
from ops.several import containers as replicas
from ops.several.places import Place
from ops.several.processes import need_the_gateway

_LOAD_SECS = 180  # for a server to start, load and warm up its models


class Compose:
    """Builds, serves and tests with containers.

    Args:
        device: "gpu" (NVIDIA's images and a GPU reservation) or "cpu".
        setup: build the images and the Docker SDK's environment; False uses what is there.
        profiles: what to start beside the server.
    """

    name = "docker"

    def __init__(self, settings: Settings, device: str, *, setup: bool, profiles: Sequence[str] = ()) -> None:
        self._settings = settings
        self._setup = setup
        self._project = Project(settings, device, setup=setup, profiles=profiles)
        self._one_offs = OneOffs(self._project)
        self._wanted = device
        self.server = Server(settings.host, settings.http_port)
        self._one_offs.end_leftovers()

    @property
    def device(self) -> str:
        """What the server runs on, or will: "gpu" or "cpu"."""
        return self._project.device

    @property
    def poll_secs(self) -> int:
        """Seconds between two looks of the server at the models volume, as it was started."""
        container = self._project.container()
        for entry in container.attrs["Config"]["Env"] if container is not None else []:
            name, _, value = entry.partition("=")
            if name == "POLL_SECS" and value.isdigit():
                return int(value)
        return self._settings.poll_secs

    @property
    def setup(self) -> bool:
        """Always: what runs beside the containers on this machine has environments of ours."""
        return True

    def python(self, part: str) -> str:
        """The interpreter of a part's environment."""
        return str(environments.python(part))

    def follow(self) -> None:
        """Take the address of the server that runs, wherever the one who started it got it from."""
        bound = self._project.bound()
        if bound:
            ports = {name: int(b["HostPort"]) for name, b in bound.items()}
            self._settings = self._settings.at(ports, next(iter(bound.values()))["HostIp"])
            self.server = Server(self._settings.host, self._settings.http_port)
        elif "gateway" in self._project.beside():
            self._inside()

    def places(self) -> List[Place]:
        """Where every server's container is; of a single one, wherever it is published."""
        return replicas.places(self._project.servers()) if self._several else [Place.of("", self._settings)]

    def missing(self) -> List[str]:
        """The servers that do not run, where there are several."""
        wanted = self._settings.triton_count
        return replicas.missing(self._project.servers(), wanted) if self._several else []

    @property
    def _several(self) -> bool:
        return self._settings.triton_count > 1 or len(self._project.servers()) > 1

    def _inside(self) -> None:
        """Take the address of the server's container: behind the gateway nothing of it is published."""
        container = self._project.container()
        where = replicas.address(container) if container is not None else ""
        if where:
            inside = {name: int(port.partition("/")[0]) for name, port in PORTS.items()}
            self._settings = self._settings.at(inside, where)
            self.server = Server(self._settings.host, self._settings.http_port)

    def prepare(self) -> None:
        """Build the images that are missing or older than their sources; raises OpsError."""
        self._project.device = self._wanted
        grace = self._settings.docker["STOP_GRACE_SECS"]
        if not grace.isdigit() or int(grace) <= self._settings.exit_timeout_secs:
            raise OpsError(
                f'STOP_GRACE_SECS is "{grace}"; Docker would kill Triton before the '
                f"{self._settings.exit_timeout_secs} s of EXIT_TIMEOUT_SECS are over",
                remedy=f"set STOP_GRACE_SECS to {self._settings.exit_timeout_secs + 15} or more",
            )
        self._project.make_volume()
        if not self._setup:
            return
        images = self._project.own_images()
        there = all(self._project.has_image(image) for image in images)
        console.progress("checking the images" if there else f"building the images {', '.join(images)}")
        with build_secrets.handed() as secrets:
            done = self._project.compose("build", *(["--quiet"] if there else []), env=secrets)
        if done.returncode:
            raise OpsError(
                "an image was not built (Docker's own words are above)",
                remedy="./scripts/doctor; where no image registry can be reached, name base images that are "
                "here: PYTHON_IMAGE, BUILDER_PYTHON_IMAGE, TENSORRT_IMAGE, TRITON_IMAGE in .env",
            )

    def check_ports(self) -> None:
        """Raise OpsError when a port is taken by somebody else than our running server."""
        beside = self._project.beside()
        need_the_gateway(self._settings, list(beside))
        ours = [int(b["HostPort"]) for b in self._project.bound().values()]
        wanted = {} if "gateway" in beside else self._settings.ports
        new = [profile for profile in self._project.profiles if not self._project.runs(profile)]
        for name, port in {**wanted, **containers.ports(new, self._settings)}.items():
            reason = "" if port in ours else port_problem(self._settings.host, port)
            if reason:
                raise OpsError(
                    f"port {port} ({name}) cannot be used: {reason}",
                    remedy=f"stop what holds it, or choose another: {name}={port + 100} ./scripts/up",
                )

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers; raises OpsError with its own words."""
        before = self._project.container()
        if before is None or before.status != "running":
            console.progress(f"starting Triton on {', '.join(map(str, self._settings.ports.values()))}")
        done = self._project.compose("up", "--detach", "--no-deps", "--no-build", "triton", quiet=True)
        if done.returncode:
            raise OpsError("Docker could not start Triton", details=done.stdout.strip()[-2000:])
        if "gateway" in self._project.beside():
            self._inside()
        self._wait({})

    def serve(self) -> None:
        """Wait until every live model answers; raises OpsError with the server's own words."""
        live = {m: d["live"] for m, d in self.snapshot().items() if d["live"]}
        self._wait(live)
        console.progress("Triton is ready: " + ", ".join(f"{m} version {v}" for m, v in live.items()))

    def serve_beside(self) -> None:
        """Start what the profiles ask for, and wait until it is ready; raises OpsError."""
        names = containers.of(self._project.profiles)
        if not names:
            return
        containers.prepare(self._project.profiles, self._settings)
        for name, why in pulled.lacking(names, self._pull).items():
            console.progress(f"starting without {name}: {why}")
            names.remove(name)
        console.progress(f"starting {', '.join(names)}")
        secrets = registry_access.credentials() if "agent" in names else {}
        up = ("up", "--detach", "--no-deps", "--no-build", "--wait")
        done = self._project.compose(*up, *names, env=secrets, quiet=True)
        if done.returncode:
            logs = self._project.compose("logs", "--tail", "12", *names, quiet=True).stdout
            raise OpsError(
                f"Docker could not start {', '.join(names)}", details=(done.stdout + logs).strip()[-2000:]
            )

    def _pull(self, service: str) -> subprocess.CompletedProcess[str]:
        return self._project.compose("pull", "--quiet", "--policy", "missing", service, quiet=True)

    def _wait(self, live: Dict[str, int]) -> None:
        for place in self.places():
            server = place.server if place.name else self.server
            try:
                server.wait(live, _LOAD_SECS + self._settings.poll_secs, self._alive)
            except OpsError as e:
                raise explained(e, self.log_tail(), "docker compose logs triton") from e

    def _alive(self) -> None:
        found = self._project.servers()
        if not found or any(c.status in ("exited", "dead", "restarting") for c in found):
            raise OpsError("the server ended before it was ready")

    def smoke(self) -> int:
        """Run the smoke test; its exit code."""
        return self.client(["smoke"])

    def client(self, args: List[str]) -> int:
        """Run ``python -m triton_stack_client ARGS`` in the stack's network; its exit code."""
        return self._one_offs.run("client", args, answer=False).returncode

    def stop(self) -> str:
        """Remove the containers and the network; the models volume stays."""
        containers = self._project.containers()
        if not containers:
            return "nothing was running"
        done = self._project.compose("down", "--remove-orphans", quiet=True)
        if done.returncode:
            raise OpsError("Docker could not stop the stack", details=done.stdout.strip()[-2000:])
        names = ", ".join(sorted(c.name for c in containers))
        return f"stopped and removed {names}; what was published stays in the volume {self._project.volume}"

    def status(self) -> Dict[str, Any]:
        """Server and container, for `status`."""
        container = self._project.container()
        state = container.attrs["State"] if container else {}
        running = state.get("Status") == "running"
        metadata = self.server.metadata() if running else None
        health = state.get("Health") or {}
        several = self._project.servers()
        beside = containers.of(self._project.beside())
        words = [entry["Output"].strip() for entry in health.get("Log") or []]
        return {
            "runtime": self.name,
            "device": self.device,
            "server": {
                "state": "running"
                if metadata
                else "not answering"
                if running
                else state.get("Status", "stopped"),
                "container": container.name if container else None,
                "health": health.get("Status"),
                "health_says": words[-1] if words else "",
                "version": metadata.get("version") if metadata else None,
                "http": f"{self._settings.host}:{self._settings.http_port}",
                "grpc": f"{self._settings.host}:{self._settings.grpc_port}",
                "metrics": f"{self._settings.host}:{self._settings.metrics_port}",
                "log": "docker compose logs triton",
            },
            "services": [
                containers.row(c.labels[SERVICE], c)
                for c in self._project.containers()
                if c.labels.get(SERVICE) in beside
            ],
            **({"servers": [replicas.row(c) for c in several]} if len(several) > 1 else {}),
        }

    def snapshot(self) -> Dict[str, snapshot.Model]:
        """Every model on the models volume, read by a container: the volume is the engine's.

        Raises:
            OpsError: it cannot be read.
        """
        if not self._project.has_volume():
            return {}
        # Each image has models_volume in the folder of its own code.
        module = ["-m", "models_volume", "snapshot", "/models"]
        container = self._project.container()
        if container is not None and container.status == "running":
            code, text, error = sdk.said(container, ["python3", *module], workdir="/opt/triton")
        else:
            argv = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "python3", "client", *module]
            done = self._project.compose(*argv, quiet=True, apart=True)
            code, text, error = done.returncode, done.stdout, done.stderr
        if code or not text.strip():
            raise OpsError("the models volume cannot be read", details=error.strip()[-1000:])
        data: Dict[str, snapshot.Model] = json.loads(text)
        return data

    @contextlib.contextmanager
    def client_environment(self, model: Optional[str]) -> Iterator[Dict[str, str]]:
        """The server's address, and MODELS_DIR: a copy of the live releases. On a GPU, a `trtexec` in PATH
        that runs in a container.

        Raises:
            OpsError: the server does not run, or a release cannot be copied.
        """
        container = self._project.container()
        if container is None or container.status != "running":
            raise OpsError("the server does not run", remedy="./scripts/up --runtime docker")
        live = {name: data["live"] for name, data in self.snapshot().items() if data["live"]}
        with volume_copy.copied(container.name, {model: live[model]} if model in live else live) as folder:
            changes = {**self._settings.address, "MODELS_DIR": str(folder)}
            if self.device == "gpu":
                run = ["run", "--rm", "--no-deps", "-T", "--volume", f"{folder}:{folder}:ro"]
                knobs = [f"{key}={value}" for key, value in self._project.environment().items()]
                compose = ["env", *knobs, "docker", "compose"]
                command = [*compose, *run, "--entrypoint", "trtexec", "builder"]
                volume_copy.program(folder / "bin", "trtexec", command, ROOT)
                changes["PATH"] = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
            yield changes

    def ask(self, part: str, args: List[str]) -> Tuple[int, str]:
        """Run ``python -m PART ARGS``; its exit code and standard output. Its progress is shown."""
        done = self._one_offs.run(part, args, answer=True)
        words = outside(done.stdout, self._project.volume) if done.returncode else done.stdout
        return done.returncode, words

    def log_tail(self) -> List[str]:
        """The last lines of the server's log."""
        try:
            container = self._project.container()
            return container.logs(tail=400).decode("utf-8", "replace").splitlines() if container else []
        except Exception:  # noqa: BLE001  (the SDK's errors; some log drivers hand nothing out)
            return []
