"""Which of the ways to run: Docker or native, GPU or CPU, and why."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from ops.errors import OpsError

_TRTEXEC = ("/opt/tensorrt/bin/trtexec", "/usr/src/tensorrt/bin/trtexec")
OLDEST_COMPOSE = (2, 24, 4)  # !override and !reset in compose.cpu.yaml


@dataclass(frozen=True)
class Choice:
    """``runtime`` is "docker" or "native", ``device`` "gpu" or "cpu"; ``why`` is a line for people."""

    runtime: str
    device: str
    why: str


def choose(runtime: str, device: str, *, base_images: List[str]) -> Choice:
    """Settle "auto".

    Args:
        base_images: what the Docker runtime's images are built on, for the given device.

    Raises:
        OpsError: what was asked for by name is not to be had.
    """
    no_docker = docker_problem(base_images)
    if runtime == "docker" and no_docker:
        raise OpsError(f"--runtime docker: {no_docker}", remedy="./scripts/doctor, or --runtime native")
    if runtime == "auto":
        runtime = "native" if no_docker else "docker"
        docker_why = f"native, because {no_docker}" if no_docker else "Docker, because an engine answers"
    else:
        docker_why = f"{runtime}, as asked"
    missing = gpu_problem(runtime)
    if device == "gpu" and missing:
        raise OpsError(f"--device gpu: {missing}", remedy="./scripts/doctor, or --device cpu")
    if device == "auto":
        device = "cpu" if missing else "gpu"
        device_why = f"CPU, because {missing}" if missing else "GPU, because one was found"
    else:
        device_why = f"{device.upper()}, as asked"
    return Choice(runtime, device, f"{docker_why}; {device_why}")


def docker_problem(base_images: List[str]) -> Optional[str]:
    """Why Docker cannot be used; None when it can."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    engine = _ask(["docker", "version", "--format", "{{.Server.Version}}"])
    if engine is None:
        return "no Docker Engine answers"
    compose = compose_version()
    if compose is None:
        return "there is no docker compose"
    if compose < OLDEST_COMPOSE:
        found, wanted = (".".join(map(str, v)) for v in (compose, OLDEST_COMPOSE))
        return f"docker compose is {found}, older than {wanted}"
    for image in base_images:
        there = _ask(["docker", "image", "inspect", "--format", "{{.Id}}", image])
        if there is None and _ask(["docker", "manifest", "inspect", image]) is None:
            return f"the base image {image} is not here and cannot be pulled"
    return None


def compose_version() -> Optional[tuple[int, ...]]:
    """Docker Compose's version; None without one."""
    text = _ask(["docker", "compose", "version", "--short"])
    parts = (text or "").strip().lstrip("v").split("-")[0].split("+")[0].split(".")
    return tuple(int(p) for p in parts) if parts and all(p.isdigit() for p in parts) else None


def gpu_problem(runtime: str) -> Optional[str]:
    """Why the GPU cannot be used in that runtime; None when it can."""
    if runtime == "native":
        for tool, found in (("trtexec", trtexec()), ("tritonserver", shutil.which("tritonserver"))):
            if found is None:
                return f"there is no {tool} on PATH"
        return None
    if _ask(["nvidia-smi", "-L"]) is None:
        return "nvidia-smi finds no GPU"
    runtimes = _ask(["docker", "info", "--format", "{{json .Runtimes}}"]) or ""
    if "nvidia" not in runtimes:
        return "Docker has no NVIDIA runtime (nvidia-container-toolkit)"
    return None


def trtexec() -> Optional[str]:
    """The trtexec that the builder will find."""
    wanted = os.environ.get("TRTEXEC") or "trtexec"
    return shutil.which(wanted) or next((p for p in _TRTEXEC if os.access(p, os.X_OK)), None)


def tensorrt_backend() -> Optional[Path]:
    """Triton's TensorRT backend, where it can be seen; a tritonserver that is a script may know others."""
    server = shutil.which("tritonserver")
    places = [os.environ.get("TRITON_BACKENDS"), "/opt/tritonserver/backends"]
    if server:
        places.append(str(Path(server).resolve().parents[1] / "backends"))
    for place in filter(None, places):
        library = Path(place) / "tensorrt" / "libtriton_tensorrt.so"
        if library.is_file():
            return library
    return None


def _ask(argv: List[str]) -> Optional[str]:
    """A command's answer, None when it fails, is not there, or takes longer than 20 s."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else None
