"""What ``up`` relies on, checked: each finding with its remedy. ``doctor`` prints them all."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

from ops import environments
from ops.choose import choose, docker_problem, gpu_problem, tensorrt_backend, trtexec
from ops.errors import OpsError
from ops.native import Native
from ops.settings import Settings

_GLIBC = (2, 35)  # of nvidia-pytriton 0.7's wheel: manylinux_2_35
_SHM_MIB = 64  # a Python backend instance's region; the whole of Docker's default /dev/shm
_MODELS_MIB = 1000  # an export, a release and its staging, for ResNet50 with room to spare


@dataclass(frozen=True)
class Finding:
    """One check. ``level`` is "ok", "warn" (something is not used because of it) or "fail"."""

    name: str
    level: str
    detail: str
    remedy: str = ""


def base_images(settings: Settings, device: str) -> List[str]:
    """What the Docker runtime's images are built on."""
    if device == "cpu":
        return ["python:3.12-slim-bookworm"]
    return [f"nvcr.io/nvidia/{name}:{settings.ngc_tag}-py3" for name in ("tensorrt", "tritonserver")]


def before_up(runtime: Native, settings: Settings, *, setup: bool) -> None:
    """Raise OpsError for the first thing that would stop `up` later; takes no noticeable time."""
    runtime.check_ports()
    for finding in local(settings, runtime.device, runtime.parts() if setup else []):
        if finding.level == "fail":
            raise OpsError(f"{finding.name}: {finding.detail}", remedy=finding.remedy)


def local(settings: Settings, device: str, parts: List[str]) -> Iterator[Finding]:
    """The native runtime's needs of this machine."""
    if parts:
        yield _python(parts)
    if device == "cpu":
        yield _platform()
        yield _shared_memory()
    yield _writable(settings)
    yield _disk("disk for models", settings.models_dir, _MODELS_MIB)
    needed = sum(environments.DISK_MIB[p] for p in environments.stale(parts))
    if needed:
        yield _disk("disk for environments", environments.FOLDER, needed)


def everything(settings: Settings) -> Iterator[Finding]:
    """All findings, for `doctor`."""
    docker = docker_problem(base_images(settings, "cpu"))
    yield Finding("Docker", "warn" if docker else "ok", docker or "an engine answers", "only needed for --runtime docker")
    for name, found in (("trtexec", trtexec()), ("tritonserver", shutil.which("tritonserver"))):
        remedy = f"only needed for --device gpu without Docker: put {name} on PATH"
        yield Finding(name, "ok" if found else "warn", found or "not found", remedy)
    if gpu_problem("native") is None:
        backend = tensorrt_backend()
        yield Finding(
            "TensorRT backend",
            "ok" if backend else "warn",
            str(backend or "libtriton_tensorrt.so was not seen"),
            "set TRITON_BACKENDS to the folder that holds tensorrt/, unless tritonserver knows it itself",
        )
    choice = choose("native", "auto", base_images=[])
    runtime = Native(settings, choice.device, setup=True)
    yield from local(settings, choice.device, runtime.parts())
    try:
        runtime.check_ports()
        running = runtime.process.state()
        state = f"{', '.join(map(str, settings.ports.values()))} " + ("ours" if running else "free")
        yield Finding("ports", "ok", state)
    except OpsError as e:
        yield Finding("ports", "fail", e.found, e.remedy)


def _python(parts: List[str]) -> Finding:
    reason = environments.supported() if environments.stale(parts) else None
    version = platform.python_version()
    return Finding("Python", "fail" if reason else "ok", reason or version, "python3.12 ./scripts/up")


def _platform() -> Finding:
    machine, libc = platform.machine(), os.confstr("CS_GNU_LIBC_VERSION") or "no glibc"
    numbers = libc.split()[-1].split(".")
    version = tuple(int(n) for n in numbers) if all(n.isdigit() for n in numbers) else (0,)
    good = machine == "x86_64" and version >= _GLIBC
    return Finding(
        "platform",
        "ok" if good else "fail",
        f"{machine}, {libc}",
        "Triton's CPU build from PyPI is for x86_64 and glibc 2.35 or newer (Debian 12, Ubuntu 22.04): use "
        "--runtime docker here",
    )


def _shared_memory() -> Finding:
    free = shutil.disk_usage("/dev/shm").free >> 20 if Path("/dev/shm").is_dir() else 0  # noqa: S108
    return Finding(
        "/dev/shm",
        "ok" if free > _SHM_MIB else "fail",
        f"{free} MiB free",
        f"the Python backend takes {_SHM_MIB} MiB for each instance: in a container, --shm-size=1g",
    )


def _writable(settings: Settings) -> Finding:
    path = settings.models_dir
    while not path.exists():
        path = path.parent
    good = path.is_dir() and os.access(path, os.W_OK)
    return Finding(
        "models volume",
        "ok" if good else "fail",
        f"{settings.models_dir}" if good else f"{path} cannot be written by user {os.getuid()}",
        "set MODELS_DIR to a folder that can be written",
    )


def _disk(name: str, path: Path, needed: int) -> Finding:
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free >> 20
    return Finding(
        name,
        "ok" if free >= needed else "fail",
        f"{free} MiB free at {path}, {needed} MiB needed",
        f"free some space, or set {'MODELS_DIR' if 'models' in name else 'VENVS_DIR'} to a larger disk",
    )


