"""What our Compose project is called, and whether anything of it is there. Needs no Docker SDK."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import List, Optional

from ops.settings import ROOT, Settings

CPU_FILE = "compose.cpu.yaml"
GPUS_FILE = "compose.gpus.yaml"  # on top where several servers share the machine's GPUs
DEVICE_LABEL = "tensorflow-triton.device"  # on the server's container, in both Compose files
OURS = "tensorflow-triton"  # what the names of images begin with that are built here


@dataclass(frozen=True)
class Traces:
    """What the engine holds of our project: containers, running or not, and the models volume."""

    containers: bool
    volume: bool


def project_name(settings: Settings) -> str:
    """The Compose project's name: COMPOSE_PROJECT_NAME, or what compose.yaml calls itself."""
    named = settings.docker["COMPOSE_PROJECT_NAME"]
    if named:
        return named
    found = re.search(r"^name: (\S+)$", (ROOT / "compose.yaml").read_text("utf-8"), re.MULTILINE)
    assert found
    return found.group(1)


def volume_name(project: str) -> str:
    """The models volume of the project of this name."""
    return f"{project}_models"


def default_device(settings: Settings) -> str:
    """The device of a plain `docker compose up`: COMPOSE_FILE says it."""
    return "cpu" if CPU_FILE in files(settings) else "gpu"


def files(settings: Settings) -> List[str]:
    """The Compose files that COMPOSE_FILE names."""
    return [name for name in settings.docker["COMPOSE_FILE"].split(":") if name]


def traces(settings: Settings) -> Optional[Traces]:
    """What the engine holds of our project; None where no engine answers."""
    label = f"label=com.docker.compose.project={project_name(settings)}"
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
