"""The stack as containers: compose.yaml, with compose.cpu.yaml on top where there is no GPU."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from models_volume import snapshot
from ops import console, registry_access
from ops.checks.ports import port_problem
from ops.errors import OpsError
from ops.probe import ask
from ops.runtimes import build_secrets, docker_sdk, driver, environments, volume_copy
from ops.runtimes.server import Server, explained
from ops.services import containers, pulled
from ops.settings import ROOT, Settings
from ops.several import containers as replicas
from ops.several.places import Place
from ops.several.processes import need_the_gateway

CPU_FILE = "compose.cpu.yaml"
GPUS_FILE = "compose.gpus.yaml"  # on top where several servers share the machine's GPUs
DEVICE_LABEL = "tensorflow-triton.device"  # on the server's container, in both Compose files
_CHECKOUT = "tensorflow-triton.checkout"  # on the volume; Compose puts none there
_WORKING_DIR = "com.docker.compose.project.working_dir"  # on every container, by Compose
_PROFILES = "build,serve,smoke"
_OURS = "tensorflow-triton"  # what the names of images begin with that are built here
_FREE = ("data", "home", "media", "mnt", "srv", "tmp")  # no image of ours has files there
_HOST = "/host"
_LOAD_SECS = 180  # for a server to start, load and warm up its models
_PORTS = {"HTTP_PORT": "8000/tcp", "GRPC_PORT": "8001/tcp", "METRICS_PORT": "8002/tcp"}


@dataclass(frozen=True)
class Traces:
    """What the engine holds of our project: containers, running or not, and the models volume."""

    containers: bool
    volume: bool


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
        self._project = project(settings)
        self._engine = docker_sdk.connect(setup=setup)
        self.device = self._running_device() or device
        self._wanted = device
        self._profiles = tuple(profiles)
        self.server = Server(settings.host, settings.http_port)
        self._one_offs = 0
        self._refuse_another_checkout()
        self._end_leftovers()

    @property
    def poll_secs(self) -> int:
        """Seconds between two looks of the server at the models volume, as it was started."""
        container = self._container()
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
        bound = self._bound()
        if bound:
            ports = {name: int(b["HostPort"]) for name, b in bound.items()}
            self._settings = self._settings.at(ports, next(iter(bound.values()))["HostIp"])
            self.server = Server(self._settings.host, self._settings.http_port)
        elif "gateway" in self._beside():
            self._inside()

    def places(self) -> List[Place]:
        """Where every server's container is; of a single one, wherever it is published."""
        return replicas.places(self._servers()) if self._several else [Place.of("", self._settings)]

    def missing(self) -> List[str]:
        """The servers that do not run, where there are several."""
        wanted = self._settings.triton_count
        return replicas.missing(self._servers(), wanted) if self._several else []

    @property
    def _several(self) -> bool:
        return self._settings.triton_count > 1 or len(self._servers()) > 1

    def _inside(self) -> None:
        """Take the address of the server's container: behind the gateway nothing of it is published."""
        container = self._container()
        networks = container.attrs["NetworkSettings"]["Networks"] if container is not None else {}
        for network in networks.values():
            if network["IPAddress"]:
                inside = {name: int(port.partition("/")[0]) for name, port in _PORTS.items()}
                self._settings = self._settings.at(inside, network["IPAddress"])
                self.server = Server(self._settings.host, self._settings.http_port)

    def _beside(self) -> Sequence[str]:
        """The profiles that are asked for, and those that are there already."""
        names = [c.labels.get("com.docker.compose.service", "") for c in self._containers()]
        return tuple(dict.fromkeys([*self._profiles, *containers.there(names)]))

    def _refuse_another_checkout(self) -> None:
        """Raise OpsError when our project's containers or volume are those of another checkout.

        Compose knows a stack by its project's name alone: `down` here would stop the other one's server.
        """
        marked = [("container", c.name, c.labels.get(_WORKING_DIR)) for c in self._containers()]
        volumes = self._engine.volumes.list(filters={"label": self._labels("volume=models")})
        marked += [("volume", v.name, (v.attrs.get("Labels") or {}).get(_CHECKOUT)) for v in volumes]
        for kind, name, folder in marked:
            # One that is gone from this machine has moved, perhaps to here.
            if folder and Path(folder).is_dir() and Path(folder).resolve() != ROOT:
                raise OpsError(
                    f"the {kind} {name} is of the checkout in {folder}; this one, in {ROOT}, has the same "
                    f'Compose project name, "{self._project}"',
                    remedy="give this one a name of its own: COMPOSE_PROJECT_NAME=another-name in the "
                    "environment or in .env",
                )

    def _own_volume(self) -> None:
        """Make the models volume, where there is none, with the name of this checkout on it."""
        if self._engine.volumes.list(filters={"label": self._labels("volume=models")}):
            return
        version = self._compose("version", "--short", quiet=True, apart=True).stdout.strip().lstrip("v")
        compose = {"project": self._project, "version": version, "volume": "models"}
        labels = {f"com.docker.compose.{key}": value for key, value in compose.items()}
        self._engine.volumes.create(name=self._volume(), labels={**labels, _CHECKOUT: str(ROOT)})

    def prepare(self) -> None:
        """Build the images that are missing or older than their sources; raises OpsError."""
        self.device = self._wanted
        grace = self._settings.docker["STOP_GRACE_SECS"]
        if not grace.isdigit() or int(grace) <= self._settings.exit_timeout_secs:
            raise OpsError(
                f'STOP_GRACE_SECS is "{grace}"; Docker would kill Triton before the '
                f"{self._settings.exit_timeout_secs} s of EXIT_TIMEOUT_SECS are over",
                remedy=f"set STOP_GRACE_SECS to {self._settings.exit_timeout_secs + 15} or more",
            )
        self._own_volume()
        if not self._setup:
            return
        images = [image for image in self._images() if image.startswith(_OURS)]
        there = all(self._has(image) for image in images)
        console.progress("checking the images" if there else f"building the images {', '.join(images)}")
        with build_secrets.handed() as secrets:
            done = self._compose("build", *(["--quiet"] if there else []), env=secrets)
        if done.returncode:
            raise OpsError(
                "an image was not built (Docker's own words are above)",
                remedy="./scripts/doctor; where no image registry can be reached, name base images that are "
                "here: PYTHON_IMAGE, BUILDER_PYTHON_IMAGE, TENSORRT_IMAGE, TRITON_IMAGE in .env",
            )

    def check_ports(self) -> None:
        """Raise OpsError when a port is taken by somebody else than our running server."""
        need_the_gateway(self._settings, list(self._beside()))
        ours = [int(b["HostPort"]) for b in self._bound().values()]
        beside = self._beside()
        wanted = {} if "gateway" in beside else self._settings.ports
        new = [profile for profile in beside if profile in self._profiles and not self._runs(profile)]
        for name, port in {**wanted, **containers.ports(new, self._settings)}.items():
            reason = "" if port in ours else port_problem(self._settings.host, port)
            if reason:
                raise OpsError(
                    f"port {port} ({name}) cannot be used: {reason}",
                    remedy=f"stop what holds it, or choose another: {name}={port + 100} ./scripts/up",
                )

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers; raises OpsError with its own words."""
        before = self._container()
        if before is None or before.status != "running":
            console.progress(f"starting Triton on {', '.join(map(str, self._settings.ports.values()))}")
        done = self._compose("up", "--detach", "--no-deps", "--no-build", "triton", quiet=True)
        if done.returncode:
            raise OpsError("Docker could not start Triton", details=done.stdout.strip()[-2000:])
        if "gateway" in self._beside():
            self._inside()
        self._wait({})

    def serve(self) -> None:
        """Wait until every live model answers; raises OpsError with the server's own words."""
        live = {m: d["live"] for m, d in self.snapshot().items() if d["live"]}
        self._wait(live)
        console.progress("Triton is ready: " + ", ".join(f"{m} version {v}" for m, v in live.items()))

    def serve_beside(self) -> None:
        """Start what the profiles ask for, and wait until it is ready; raises OpsError."""
        names = containers.of(self._profiles)
        if not names:
            return
        containers.prepare(self._profiles, self._settings)
        for name, why in pulled.lacking(names, self._pull).items():
            console.progress(f"starting without {name}: {why}")
            names.remove(name)
        console.progress(f"starting {', '.join(names)}")
        secrets = registry_access.credentials() if "agent" in names else {}
        up = ("up", "--detach", "--no-deps", "--no-build", "--wait")
        done = self._compose(*up, *names, env=secrets, quiet=True)
        if done.returncode:
            logs = self._compose("logs", "--tail", "12", *names, quiet=True).stdout
            raise OpsError(
                f"Docker could not start {', '.join(names)}", details=(done.stdout + logs).strip()[-2000:]
            )

    def _pull(self, service: str) -> subprocess.CompletedProcess[str]:
        return self._compose("pull", "--quiet", "--policy", "missing", service, quiet=True)

    def _runs(self, profile: str) -> bool:
        """Whether a container of the profile's services runs."""
        found = self._engine.containers.list(filters={"label": self._labels()})
        names = {c.labels.get("com.docker.compose.service") for c in found}
        return bool(names & {*containers.of([profile])})

    def _wait(self, live: Dict[str, int]) -> None:
        for place in self.places():
            server = place.server if place.name else self.server
            try:
                server.wait(live, _LOAD_SECS + self._settings.poll_secs, self._alive)
            except OpsError as e:
                raise explained(e, self.log_tail(), "docker compose logs triton") from e

    def _alive(self) -> None:
        found = self._servers()
        if not found or any(c.status in ("exited", "dead", "restarting") for c in found):
            raise OpsError("the server ended before it was ready")

    def smoke(self) -> int:
        """Run the smoke test; its exit code."""
        return self.client(["smoke"])

    def client(self, args: List[str]) -> int:
        """Run ``python -m triton_stack_client ARGS`` in the stack's network; its exit code."""
        return self._run("client", args)

    def stop(self) -> str:
        """Remove the containers and the network; the models volume stays."""
        containers = self._containers()
        if not containers:
            return "nothing was running"
        done = self._compose("down", "--remove-orphans", quiet=True)
        if done.returncode:
            raise OpsError("Docker could not stop the stack", details=done.stdout.strip()[-2000:])
        names = ", ".join(sorted(c.name for c in containers))
        return f"stopped and removed {names}; what was published stays in the volume {self._volume()}"

    def status(self) -> Dict[str, Any]:
        """Server and container, for `status`."""
        container = self._container()
        state = container.attrs["State"] if container else {}
        running = state.get("Status") == "running"
        metadata = self.server.metadata() if running else None
        health = state.get("Health") or {}
        several = self._servers()
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
                containers.row(c.labels["com.docker.compose.service"], c)
                for c in self._containers()
                if c.labels.get("com.docker.compose.service") in containers.of(self._beside())
            ],
            **({"servers": [replicas.row(c) for c in several]} if len(several) > 1 else {}),
        }

    def snapshot(self) -> Dict[str, snapshot.Model]:
        """Every model on the models volume, read by a container: the volume is the engine's.

        Raises:
            OpsError: it cannot be read.
        """
        if not self._engine.volumes.list(filters={"label": self._labels("volume=models")}):
            return {}
        # Each image has models_volume in the folder of its own code.
        module = ["-m", "models_volume", "snapshot", "/models"]
        container = self._container()
        if container is not None and container.status == "running":
            code, text, error = docker_sdk.said(container, ["python3", *module], workdir="/opt/triton")
        else:
            argv = ["run", "--rm", "--no-deps", "-T", "--entrypoint", "python3", "client", *module]
            done = self._compose(*argv, quiet=True, apart=True)
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
        container = self._container()
        if container is None or container.status != "running":
            raise OpsError("the server does not run", remedy="./scripts/up --runtime docker")
        live = {name: data["live"] for name, data in self.snapshot().items() if data["live"]}
        with volume_copy.copied(container.name, {model: live[model]} if model in live else live) as folder:
            changes = {**self._settings.address, "MODELS_DIR": str(folder)}
            if self.device == "gpu":
                run = ["run", "--rm", "--no-deps", "-T", "--volume", f"{folder}:{folder}:ro"]
                knobs = [f"{key}={value}" for key, value in self._environment().items()]
                compose = ["env", *knobs, "docker", "compose"]
                command = [*compose, *run, "--entrypoint", "trtexec", "builder"]
                volume_copy.program(folder / "bin", "trtexec", command, ROOT)
                changes["PATH"] = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
            yield changes

    def ask(self, part: str, args: List[str]) -> Tuple[int, str]:
        """Run ``python -m PART ARGS``; its exit code and standard output. Its progress is shown."""
        done = self._one_off(part, args, answer=True)
        return done.returncode, self._outside(done.stdout) if done.returncode else done.stdout

    def _run(self, service: str, args: List[str]) -> int:
        return self._one_off(service, args, answer=False).returncode

    def _one_off(self, service: str, args: List[str], *, answer: bool) -> subprocess.CompletedProcess[str]:
        """A one-off container of ``service``; files of this machine among ``args`` are mounted for it.

        It does not outlive this process: a builder is on a leash, and whatever an interruption here leaves is
        removed by name. What is left all the same (this process killed, and the container deaf) is found by
        the next command by its label.
        """
        mounts: List[str] = []
        inside = [self._mounted(arg, mounts) for arg in args]
        access: List[str] = []
        secrets: Dict[str, str] = {}
        if service == "cluster":
            access, secrets = registry_access.handed(lambda file: self._mounted(file, mounts))
        options = [word for mount in mounts for word in ("--volume", mount)]
        self._one_offs += 1
        name = f"{self._project}-{service}-{os.getpid()}-{driver.start_time(os.getpid())}-{self._one_offs}"
        options += [w for k, v in console.started().items() for w in ("--env", f"{k}={v}")]
        options += ["--name", name, "--label", f"{driver.LABEL}={driver.me()}"]
        with contextlib.ExitStack() as stack:
            stdin = subprocess.DEVNULL
            if service in ("builder", "cluster"):
                stdin = stack.enter_context(driver.leash())
                options += [w for k, v in driver.LEASH.items() for w in ("--env", f"{k}={v}")]
            # What downloads a package needs this machine's way to an index.
            makes = service == "builder" and args[0] in ("build", "deploy", "export")
            if makes:
                secrets = stack.enter_context(build_secrets.handed())
            if service == "cluster":  # it has the builder's image, volume and GPU
                options, service = [*options, *access, "--entrypoint", "python3"], "builder"
                inside = ["-m", "cluster", *inside]
            try:
                return self._compose(
                    "run", "--rm", "--no-deps", "-T", *options, service, *inside,
                    env=secrets, answer=answer, stdin=stdin,
                )  # fmt: skip
            except BaseException:
                ask(["docker", "rm", "--force", name])  # Compose's own end leaves it running
                raise

    def _end_leftovers(self) -> None:
        """End the one-off containers of drivers that have died: one of them could still change something."""
        labels = [*self._labels("oneoff=True"), driver.LABEL]
        for container in self._engine.containers.list(all=True, filters={"label": labels}):
            if driver.gone(container.labels[driver.LABEL]):
                console.progress(f"ending {container.name}, left by a command that was killed")
                ask(["docker", "rm", "--force", container.name])

    def _mounted(self, arg: str, mounts: List[str]) -> str:
        """``arg`` as a container sees it: of a file its whole folder is mounted, read-only. Under its own
        path, so that messages name it rightly; under /host where an image may have something of its own."""
        path = Path(arg)
        if not path.is_absolute() or not path.is_file():
            return arg
        if ":" in str(path.parent):
            raise OpsError(f"{path}: Docker cannot mount a folder with a colon in its name")
        for needed in (path, path.parent):
            if not _readable(needed):
                raise OpsError(
                    f"{needed} cannot be read by user 1000, as whom the containers run",
                    remedy=f"chmod -R o+rX {path.parent}",
                )
        place = "" if path.parts[1] in _FREE and len(path.parts) > 3 else _HOST
        mount = f"{path.parent}:{place}{path.parent}:ro"
        if mount not in mounts:
            mounts.append(mount)
        return f"{place}{path}"

    def _outside(self, message: str) -> str:
        """What a container says, with the places as they are called out here."""
        message = re.sub(rf"(?<![\w.-]){_HOST}/", "/", message)
        return re.sub(r"(?<![\w./-])/models(?=/)", f"{self._volume()}:", message)

    def _compose(
        self,
        *args: str,
        env: Optional[Dict[str, str]] = None,
        quiet: bool = False,
        apart: bool = False,
        answer: bool = False,
        stdin: int = subprocess.DEVNULL,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker compose``; ``quiet`` captures its output, its errors ``apart`` or in with it;
        ``answer`` captures standard output alone."""
        errors = subprocess.PIPE if apart else subprocess.STDOUT
        return subprocess.run(
            ["docker", "compose", *args],
            cwd=ROOT,
            env={**os.environ, **self._environment(), **(env or {})},
            stdout=subprocess.PIPE if quiet or answer else None,
            stderr=errors if quiet else None,
            stdin=stdin,
            text=True,
            check=False,
        )

    def _environment(self) -> Dict[str, str]:
        files = [f for f in self._settings.docker["COMPOSE_FILE"].split(":") if f and f != CPU_FILE]
        files += [CPU_FILE] if self.device == "cpu" else []
        if self.device == "gpu" and self._settings.triton_count > 1 and GPUS_FILE not in files:
            files.append(GPUS_FILE)
        beside = self._beside()
        more = [containers.FILES[profile] for profile in beside if profile in containers.FILES]
        files += [file for file in more if file not in files]
        return {
            "COMPOSE_FILE": ":".join(files),
            "COMPOSE_PATH_SEPARATOR": ":",
            "COMPOSE_PROFILES": ",".join([_PROFILES, *beside]),
            "COMPOSE_PROJECT_NAME": self._project,
        }

    def _images(self) -> List[str]:
        done = self._compose("config", "--images", quiet=True, apart=True)
        if done.returncode:
            raise OpsError("the Compose files are refused", details=done.stderr.strip()[-1000:])
        return sorted(done.stdout.split())

    def _has(self, image: str) -> bool:
        return bool(self._engine.images.list(name=image))

    def _labels(self, *more: str) -> List[str]:
        return [f"com.docker.compose.{label}" for label in (f"project={self._project}", *more)]

    def _containers(self) -> List[Any]:
        return list(self._engine.containers.list(all=True, filters={"label": self._labels()}))

    def _servers(self) -> List[Any]:
        """The servers' containers, running or not, the first one first."""
        labels = self._labels("service=triton", "oneoff=False")
        found = self._engine.containers.list(all=True, filters={"label": labels})
        return sorted(found, key=replicas.number)

    def _container(self) -> Optional[Any]:
        """The server's container, the first one's of several, running or not."""
        found = self._servers()
        return found[0] if found else None

    def _running_device(self) -> Optional[str]:
        container = self._container()
        return container.labels.get(DEVICE_LABEL) if container is not None else None

    def _bound(self) -> Dict[str, Dict[str, str]]:
        """Where on this machine our server's container is published: HostIp and HostPort by our variable."""
        container = self._container()
        ports = (container.attrs["NetworkSettings"]["Ports"] if container is not None else None) or {}
        return {name: ports[inside][0] for name, inside in _PORTS.items() if ports.get(inside)}

    def _volume(self) -> str:
        return f"{self._project}_models"

    def log_tail(self) -> List[str]:
        """The last lines of the server's log."""
        try:
            container = self._container()
            return container.logs(tail=400).decode("utf-8", "replace").splitlines() if container else []
        except Exception:  # noqa: BLE001  (the SDK's errors; some log drivers hand nothing out)
            return []


def project(settings: Settings) -> str:
    """The Compose project's name: COMPOSE_PROJECT_NAME, or what compose.yaml calls itself."""
    named = settings.docker["COMPOSE_PROJECT_NAME"]
    if named:
        return named
    found = re.search(r"^name: (\S+)$", (ROOT / "compose.yaml").read_text("utf-8"), re.MULTILINE)
    assert found
    return found.group(1)


def default_device(settings: Settings) -> str:
    """The device of a plain `docker compose up`: COMPOSE_FILE says it."""
    return "cpu" if CPU_FILE in settings.docker["COMPOSE_FILE"].split(":") else "gpu"


def traces(settings: Settings) -> Optional[Traces]:
    """What the engine holds of our project; None where no engine answers. Needs no SDK."""
    label = f"label=com.docker.compose.project={project(settings)}"
    found = []
    for argv in (["ps", "--all", "--quiet"], ["volume", "ls", "--quiet"]):
        try:
            done = subprocess.run(
                ["docker", *argv, "--filter", label], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        found.append(bool(done.stdout.strip()))
    return Traces(*found)


def _readable(path: Path) -> bool:
    """Whether user 1000 may read it, as the permission bits say."""
    facts = path.stat()
    mode = facts.st_mode
    bits = mode >> 6 if facts.st_uid == 1000 else mode >> 3 if facts.st_gid == 1000 else mode
    needed = 5 if path.is_dir() else 4
    return bits & needed == needed
