"""What the cluster's commands need in a container of this machine: settings, files, and credentials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Callable, Dict, List, Tuple

from ops.errors import OpsError
from ops.settings import REGISTRY, ROOT, value

_PASSED = ("COSIGN_PASSWORD",)


def handed(mounted: Callable[[str], str]) -> Tuple[List[str], Dict[str, str]]:
    """Options of ``docker compose run``, and the environment that they want: a secret is no argument.

    Args:
        mounted: a file's place in the container, by its path here.

    Raises:
        OpsError: the credentials cannot be read, or no container reaches the registry.
    """
    from_a_container()
    settings = {name: value(name) for name in REGISTRY if value(name)}
    options = [w for k, v in settings.items() for w in ("--env", f"{k}={mounted(_absolute(v))}")]
    secrets = {name: os.environ[name] for name in _PASSED if os.environ.get(name)}
    secrets.update(credentials())
    return [*options, *(w for name in secrets for w in ("--env", name))], secrets


def credentials() -> Dict[str, str]:
    """REGISTRY_AUTH: this machine's own, as ``docker login`` keeps them; nothing where there are none.

    Raises:
        OpsError: they cannot be read.
    """
    if not value("REGISTRY"):
        return {}
    if value("REGISTRY_AUTH"):
        return {"REGISTRY_AUTH": value("REGISTRY_AUTH")}
    env = {**os.environ, **{n: value(n) for n in REGISTRY}, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "cluster.registry.handed"]
    done = subprocess.run(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError as e:
        raise OpsError("the registry's credentials cannot be read (the reason is above)") from e
    if "error" in answer:
        raise OpsError.from_answer(answer["error"])
    return {"REGISTRY_AUTH": json.dumps(answer["entry"])} if answer["entry"] else {}


def from_a_container() -> None:
    """Raise OpsError where the registry's address means another machine in a container than here."""
    host = value("REGISTRY").partition("/")[0]
    if host.startswith(("127.", "localhost", "[::1]")):
        raise OpsError(
            f"REGISTRY is {value('REGISTRY')}: in a container that is the container itself",
            expected="a name or an address of this machine that containers reach, too",
            remedy="REGISTRY=this-machine:5000 (plain HTTP wants REGISTRY_INSECURE=1)",
        )


def needed() -> None:
    """Raise OpsError where no registry is set."""
    if not value("REGISTRY"):
        raise OpsError(
            "the profile agent needs a registry, where the cluster keeps its releases",
            expected="REGISTRY=host[:port][/path]",
            remedy="set REGISTRY in .env, or leave --profile agent away",
        )


def _absolute(text: str) -> str:
    """A file's whole path; anything else as it is."""
    file = ROOT / text
    return str(file) if file.is_file() else text
