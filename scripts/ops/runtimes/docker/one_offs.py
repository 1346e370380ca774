"""One-off containers: the builder, the client and the cluster's commands, run as programs of this machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import Dict, List

from ops import console, registry_access
from ops.probe import ask
from ops.runtimes import build_secrets, driver
from ops.runtimes.docker.mounted_files import mounted
from ops.runtimes.docker.project import Project


class OneOffs:
    """Runs them, each under a name of its own, and ends what dead drivers have left."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._count = 0

    def run(self, service: str, args: List[str], *, answer: bool) -> subprocess.CompletedProcess[str]:
        """Run a container of ``service``; files of this machine among ``args`` are mounted for it. ``answer``
        captures its standard output.

        It does not outlive this process: a builder is on a leash, and whatever an interruption here leaves is
        removed by name. What is left all the same (this process killed, and the container deaf) is found by
        the next command by its label.
        """
        mounts: List[str] = []
        inside = [mounted(arg, mounts) for arg in args]
        access: List[str] = []
        secrets: Dict[str, str] = {}
        if service == "cluster":
            access, secrets = registry_access.handed(lambda file: mounted(file, mounts))
        options = [word for mount in mounts for word in ("--volume", mount)]
        self._count += 1
        pid = os.getpid()
        name = f"{self._project.name}-{service}-{pid}-{driver.start_time(pid)}-{self._count}"
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
                return self._project.compose(
                    "run", "--rm", "--no-deps", "-T", *options, service, *inside,
                    env=secrets, answer=answer, stdin=stdin,
                )  # fmt: skip
            except BaseException:
                ask(["docker", "rm", "--force", name])  # Compose's own end leaves it running
                raise

    def end_leftovers(self) -> None:
        """End the containers of drivers that have died: one of them could still change something."""
        labels = [*self._project.labels("oneoff=True"), driver.LABEL]
        for container in self._project.engine.containers.list(all=True, filters={"label": labels}):
            if driver.gone(container.labels[driver.LABEL]):
                console.progress(f"ending {container.name}, left by a command that was killed")
                ask(["docker", "rm", "--force", container.name])
