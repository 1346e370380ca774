"""Our Compose project as the engine has it, and `docker compose` run for it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

from ops.errors import OpsError
from ops.runtimes.docker import sdk
from ops.runtimes.docker.naming import (
    CPU_FILE,
    DEVICE_LABEL,
    GPUS_FILE,
    OURS,
    files,
    project_name,
    volume_name,
)
from ops.services import containers
from ops.settings import ROOT, Settings
from ops.several import containers as replicas

PORTS = {"HTTP_PORT": "8000/tcp", "GRPC_PORT": "8001/tcp", "METRICS_PORT": "8002/tcp"}
_CHECKOUT = "tensorflow-triton.checkout"  # on the volume; Compose puts none there
_WORKING_DIR = "com.docker.compose.project.working_dir"  # on every container, by Compose
_PROFILES = "build,serve,smoke"
SERVICE = "com.docker.compose.service"


class Project:
    """The containers, images and volume of one project name.

    Args:
        device: "gpu" or "cpu": what a server that does not run yet is to run on.
        setup: make the Docker SDK's environment where it is missing.
        profiles: what is wanted beside the server.

    Attributes:
        device: what the server's container, where there is one, was made for.
        profiles: see above.

    Raises:
        OpsError: no engine answers, or the project is another checkout's.
    """

    def __init__(self, settings: Settings, device: str, *, setup: bool, profiles: Sequence[str]) -> None:
        self._settings = settings
        self.name = project_name(settings)
        self.volume = volume_name(self.name)
        self.engine = sdk.connect(setup=setup)
        self.profiles = tuple(profiles)
        server = self.container()
        self.device: str = (server.labels.get(DEVICE_LABEL) if server is not None else None) or device
        self._refuse_another_checkout()

    def labels(self, *more: str) -> List[str]:
        """What the engine finds our things by."""
        return [f"com.docker.compose.{label}" for label in (f"project={self.name}", *more)]

    def containers(self, *, running: bool = False) -> List[Any]:
        """All of ours, or those that run."""
        return list(self.engine.containers.list(all=not running, filters={"label": self.labels()}))

    def servers(self) -> List[Any]:
        """The servers' containers, running or not, the first one first."""
        labels = self.labels("service=triton", "oneoff=False")
        found = self.engine.containers.list(all=True, filters={"label": labels})
        return sorted(found, key=replicas.number)

    def container(self) -> Optional[Any]:
        """The server's container, the first one's of several, running or not."""
        found = self.servers()
        return found[0] if found else None

    def bound(self) -> Dict[str, Dict[str, str]]:
        """Where on this machine our server's container is published: HostIp and HostPort by our variable."""
        container = self.container()
        ports = (container.attrs["NetworkSettings"]["Ports"] if container is not None else None) or {}
        return {name: ports[inside][0] for name, inside in PORTS.items() if ports.get(inside)}

    def beside(self) -> Sequence[str]:
        """The profiles that are asked for, and those that are there already."""
        names = [c.labels.get(SERVICE, "") for c in self.containers()]
        return tuple(dict.fromkeys([*self.profiles, *containers.there(names)]))

    def runs(self, profile: str) -> bool:
        """Whether a container of the profile's services runs."""
        names = {c.labels.get(SERVICE) for c in self.containers(running=True)}
        return bool(names & {*containers.of([profile])})

    def has_volume(self) -> bool:
        """Whether the models volume is there."""
        return bool(self._volumes())

    def make_volume(self) -> None:
        """Make the models volume, where there is none, with the name of this checkout on it."""
        if self.has_volume():
            return
        version = self.compose("version", "--short", quiet=True, apart=True).stdout.strip().lstrip("v")
        compose = {"project": self.name, "version": version, "volume": "models"}
        labels = {f"com.docker.compose.{key}": value for key, value in compose.items()}
        self.engine.volumes.create(name=self.volume, labels={**labels, _CHECKOUT: str(ROOT)})

    def own_images(self) -> List[str]:
        """The names of the images that are built here; raises OpsError where Compose refuses its files."""
        done = self.compose("config", "--images", quiet=True, apart=True)
        if done.returncode:
            raise OpsError("the Compose files are refused", details=done.stderr.strip()[-1000:])
        return [name for name in sorted(done.stdout.split()) if name.startswith(OURS)]

    def has_image(self, image: str) -> bool:
        """Whether the engine has an image of this name."""
        return bool(self.engine.images.list(name=image))

    def compose(
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
            env={**os.environ, **self.environment(), **(env or {})},
            stdout=subprocess.PIPE if quiet or answer else None,
            stderr=errors if quiet else None,
            stdin=stdin,
            text=True,
            check=False,
        )

    def environment(self) -> Dict[str, str]:
        """What `docker compose` takes for this project from the environment: its files, profiles and name."""
        named = [file for file in files(self._settings) if file != CPU_FILE]
        named += [CPU_FILE] if self.device == "cpu" else []
        if self.device == "gpu" and self._settings.triton_count > 1 and GPUS_FILE not in named:
            named.append(GPUS_FILE)
        beside = self.beside()
        more = [containers.FILES[profile] for profile in beside if profile in containers.FILES]
        named += [file for file in more if file not in named]
        return {
            "COMPOSE_FILE": ":".join(named),
            "COMPOSE_PATH_SEPARATOR": ":",
            "COMPOSE_PROFILES": ",".join([_PROFILES, *beside]),
            "COMPOSE_PROJECT_NAME": self.name,
        }

    def _volumes(self) -> List[Any]:
        return list(self.engine.volumes.list(filters={"label": self.labels("volume=models")}))

    def _refuse_another_checkout(self) -> None:
        """Raise OpsError when our project's containers or volume are those of another checkout.

        Compose knows a stack by its project's name alone: `down` here would stop the other one's server.
        """
        marked = [("container", c.name, c.labels.get(_WORKING_DIR)) for c in self.containers()]
        marked += [("volume", v.name, (v.attrs.get("Labels") or {}).get(_CHECKOUT)) for v in self._volumes()]
        for kind, name, folder in marked:
            # One that is gone from this machine has moved, perhaps to here.
            if folder and Path(folder).is_dir() and Path(folder).resolve() != ROOT:
                raise OpsError(
                    f"the {kind} {name} is of the checkout in {folder}; this one, in {ROOT}, has the same "
                    f'Compose project name, "{self.name}"',
                    remedy="give this one a name of its own: COMPOSE_PROJECT_NAME=another-name in the "
                    "environment or in .env",
                )
