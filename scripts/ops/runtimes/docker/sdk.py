"""The Docker SDK, from the environment of scripts/requirements.txt: what reads states, health and logs."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any, List, Tuple

from ops.errors import OpsError
from ops.runtimes import environments

_TRIES = 3


def connect(*, setup: bool = True) -> Any:
    """A ``docker.DockerClient`` of the engine that the docker command talks to.

    Args:
        setup: make the environment when it is missing; False takes the SDK from the running interpreter.

    Raises:
        OpsError: the SDK is not there, or the engine does not answer.
    """
    if setup:
        environments.ensure(["scripts"])
        # Made by this very interpreter, so its packages fit; last, so that nothing of ours is hidden.
        version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
        folder = str(environments.FOLDER / "scripts" / "lib" / version / "site-packages")
        if folder not in sys.path:
            sys.path.append(folder)
    try:
        docker: Any = importlib.import_module("docker")
    except ImportError as e:
        raise OpsError(
            f"--no-setup: {sys.executable} lacks the package docker ({e})",
            remedy="pip install --require-hashes -r scripts/requirements.txt, or leave --no-setup away",
        ) from e
    try:
        client = docker.DockerClient(base_url=_endpoint(), timeout=60)
        client.ping()
    except docker.errors.DockerException as e:
        raise OpsError("no Docker Engine answers", details=str(e), remedy="./scripts/doctor") from e
    return client


def said(container: Any, argv: List[str], *, workdir: str) -> Tuple[int, str, str]:
    """Run a program that only reads in a running container: exit code, standard output, standard error.

    An engine at its limits has been seen to hand out nothing of a program that ended well: then it is asked
    again.
    """
    for _ in range(_TRIES):
        code, (out, err) = container.exec_run(argv, workdir=workdir, demux=True)
        if code or out:
            break
    return code or 0, (out or b"").decode(), (err or b"").decode()


def _endpoint() -> Any:
    """The address in the docker command's current context, which the SDK does not look at by itself."""
    done = subprocess.run(
        ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None
