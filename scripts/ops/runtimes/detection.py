"""Which of the ways to run: Docker or native, GPU or CPU, and why."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional

from ops.errors import OpsError
from ops.probe import ask, dotted, version
from ops.runtimes.docker.naming import CPU_FILE, files
from ops.settings import Settings, value

_TRTEXEC = ("/opt/tensorrt/bin/trtexec", "/usr/src/tensorrt/bin/trtexec")
OLDEST_ENGINE = (23, 0)  # BuildKit is its default builder: build secrets and cache mounts
OLDEST_COMPOSE = (2, 24, 4)  # `depends_on.required`, !reset in an override, several profiles in .env


@dataclass(frozen=True)
class Choice:
    """``runtime`` is "docker" or "native", ``device`` "gpu" or "cpu"; ``why`` is a line for people."""

    runtime: str
    device: str
    why: str


def choose(runtime: str, device: str, settings: Settings) -> Choice:
    """Settle "auto".

    Raises:
        OpsError: what was asked for by name is not to be had.
    """
    if runtime == "native":
        no_docker: Optional[str] = "native was asked for"
    elif device == "gpu" and gpu_problem("docker"):
        no_docker = gpu_problem("docker")
    else:
        no_docker = docker_problem(base_images(settings, _docker_device(device, settings)))
    if runtime == "docker" and no_docker:
        what = "--runtime docker" if device == "auto" else f"--runtime docker --device {device}"
        remedy = "./scripts/doctor, --device cpu, or --runtime native"
        raise OpsError(f"{what}: {no_docker}", remedy=remedy)
    if runtime == "auto":
        runtime = "native" if no_docker else "docker"
        docker_why = f"native, because {no_docker}" if no_docker else "Docker, because an engine answers"
    else:
        docker_why = f"{runtime}, as asked"
        no_docker = None
    missing = _device_problem(runtime, settings)
    if device == "gpu" and missing:
        both = f"with Docker, {no_docker}; without, {missing}" if no_docker else missing
        raise OpsError(f"--device gpu: {both}", remedy="./scripts/doctor, or --device cpu")
    if device == "auto":
        device = "cpu" if missing else "gpu"
        device_why = f"CPU, because {missing}" if missing else "GPU, because one was found"
    else:
        device_why = f"{device.upper()}, as asked"
    return Choice(runtime, device, f"{docker_why}; {device_why}")


def base_images(settings: Settings, device: str) -> List[str]:
    """What the Docker runtime's images are built on: compose.yaml and compose.cpu.yaml say the same."""
    python = settings.docker["PYTHON_IMAGE"] or "python:3.12-slim-bookworm"
    if device == "cpu":
        return [python]
    ours = {"tensorrt": "TENSORRT_IMAGE", "tritonserver": "TRITON_IMAGE"}
    nvidia = [
        settings.docker[knob] or f"nvcr.io/nvidia/{name}:{settings.ngc_tag}-py3"
        for name, knob in ours.items()
    ]
    builder_python = settings.docker["BUILDER_PYTHON_IMAGE"] or "python:3.12-slim-bullseye"
    return [*nvidia, builder_python, python]


def _docker_device(device: str, settings: Settings) -> str:
    if device != "auto":
        return device
    return "cpu" if _device_problem("docker", settings) else "gpu"


def _device_problem(runtime: str, settings: Settings) -> Optional[str]:
    if runtime == "docker" and CPU_FILE in files(settings):
        return f"COMPOSE_FILE names {CPU_FILE}"
    return gpu_problem(runtime)


def docker_problem(images: List[str]) -> Optional[str]:
    """Why Docker cannot be used, on ``images`` as bases; None when it can."""
    problem = engine_problem() or compose_problem()
    if problem:
        return problem
    for image in images:
        there = ask(["docker", "image", "inspect", "--format", "{{.Id}}", image])
        if there is None and ask(["docker", "manifest", "inspect", image]) is None:
            return f"the base image {image} is not here and cannot be pulled"
    return None


def engine_problem() -> Optional[str]:
    """Why there is no Docker Engine to use; None when there is one."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    engine = version(ask(["docker", "version", "--format", "{{.Server.Version}}"]))
    if engine is None:
        return "no Docker Engine answers"
    if engine < OLDEST_ENGINE:
        return f"Docker Engine is {dotted(engine)}, older than {dotted(OLDEST_ENGINE)}"
    return None


def compose_problem() -> Optional[str]:
    """Why there is no Docker Compose to use; None when there is one."""
    compose = version(ask(["docker", "compose", "version", "--short"]))
    if compose is None:
        return "there is no docker compose"
    if compose < OLDEST_COMPOSE:
        return f"docker compose is {dotted(compose)}, older than {dotted(OLDEST_COMPOSE)}"
    if ask(["docker", "buildx", "version"]) is None:
        return "there is no docker buildx, with which images are built"
    return None


def gpu_problem(runtime: str) -> Optional[str]:
    """Why the GPU cannot be used in that runtime; None when it can."""
    if runtime == "native":
        for tool, found in (("trtexec", trtexec()), ("tritonserver", shutil.which("tritonserver"))):
            if found is None:
                return f"there is no {tool} on PATH"
        return None
    if ask(["nvidia-smi", "-L"]) is None:
        return "nvidia-smi finds no GPU"
    # Docker takes the toolkit as a runtime, or as the hook that --gpus and reservations use.
    runtimes = ask(["docker", "info", "--format", "{{json .Runtimes}}"]) or ""
    if "nvidia" not in runtimes and shutil.which("nvidia-container-runtime-hook") is None:
        return "Docker has no NVIDIA runtime (nvidia-container-toolkit)"
    return None


def trtexec() -> Optional[str]:
    """The trtexec that the builder will find, as an absolute path: the builder runs in another folder."""
    wanted = value("TRTEXEC") or "trtexec"
    found = shutil.which(wanted)
    return (
        str(Path(found).absolute()) if found else next((p for p in _TRTEXEC if os.access(p, os.X_OK)), None)
    )


def tensorrt_backend() -> Optional[Path]:
    """Triton's TensorRT backend, where it can be seen; a tritonserver that is a script may know others."""
    server = shutil.which("tritonserver")
    places = [value("TRITON_BACKENDS"), "/opt/tritonserver/backends"]
    if server:
        places.append(str(Path(server).resolve().parents[1] / "backends"))
    for place in filter(None, places):
        library = Path(place) / "tensorrt" / "libtriton_tensorrt.so"
        if library.is_file():
            return library
    return None
