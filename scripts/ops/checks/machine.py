"""What ``up`` relies on, checked: each finding with its remedy. ``doctor`` prints them all."""

from __future__ import annotations

import os
import platform
import re
import shutil
from pathlib import Path
from typing import Iterable, Iterator, List

from models_volume import snapshot
from models_volume.layout import Volume
from ops.checks import docker as docker_checks
from ops.checks.findings import Finding
from ops.errors import OpsError
from ops.runtimes import environments
from ops.runtimes.base import Runtime
from ops.runtimes.detection import Choice, choose, gpu_problem, tensorrt_backend, trtexec
from ops.runtimes.native import Native
from ops.runtimes.selection import create, current
from ops.settings import ROOT, Settings

_GLIBC = (2, 35)  # of nvidia-pytriton 0.7's wheel: manylinux_2_35
_SHM = Path("/dev/shm")  # noqa: S108  (where Linux has it)
_SHM_MIB = 64  # a Python backend instance's region; the whole of Docker's default /dev/shm
MODELS_MIB = 100  # for a small model; the builder asks again, by the size of the model that it builds


def before_up(runtime: Runtime, settings: Settings, *, setup: bool) -> None:
    """Raise OpsError for the first thing that would stop `up` later; takes no noticeable time."""
    runtime.check_ports()
    if isinstance(runtime, Native):
        findings = local(settings, runtime.device, runtime.parts() if setup else [])
    else:
        findings = docker_checks.before_up(settings, runtime.device)
    for finding in findings:
        if finding.level == "fail":
            raise OpsError(f"{finding.name}: {finding.detail}", remedy=finding.remedy)


def local(settings: Settings, device: str, parts: List[str]) -> Iterator[Finding]:
    """The native runtime's needs of this machine."""
    if parts:
        yield _python(parts)
    yield _paths(settings)
    if device == "cpu":
        yield _platform()
        yield _shared_memory()
    yield _writable(settings)
    yield _disk("disk for models", settings.models_dir, MODELS_MIB)
    needed = sum(environments.DISK_MIB[p] for p in environments.stale(parts))
    if needed:
        yield _disk("disk for environments", environments.FOLDER, needed)


def everything(settings: Settings, runtime: str, device: str) -> Iterator[Finding]:
    """All findings, for `doctor`: what `up` with these choices would rely on, and what it would not."""
    try:
        choice = choose(runtime, device, settings)
        yield Finding("choice", "ok", choice.why)
    except OpsError as e:
        yield Finding("choice", "fail", e.found, e.remedy)
        # As asked, so that what is missing for it is named below.
        choice = Choice("native" if runtime == "auto" else runtime, "cpu" if device == "auto" else device, "")
    docker = list(docker_checks.findings(settings, choice.device))
    yield from docker if choice.runtime == "docker" else unused(docker, "only needed for --runtime docker")
    native = [*_tools(), *local(settings, choice.device, environments.parts(choice.device))]
    yield from native if choice.runtime == "native" else unused(native, "only needed for --runtime native")
    yield ports(settings, choice.runtime)
    if choice.runtime == "native":
        for name in snapshot.models(Volume(settings.models_dir)):
            for line in Volume(settings.models_dir).strays(name):
                yield Finding(
                    "repository", "warn", line, "Triton takes every entry there for a model or a version"
                )


def unused(findings: Iterable[Finding], why: str) -> Iterator[Finding]:
    """The same findings where nothing depends on them: a failure is worth a warning only."""
    for f in findings:
        yield Finding(f.name, "warn", f.detail, f"{f.remedy} ({why})") if f.level == "fail" else f


def _tools() -> Iterator[Finding]:
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


def ports(settings: Settings, name: str) -> Finding:
    """Whether the three ports are free, or held by the server that `up` started."""
    try:
        runtime = current(settings, name)
        # With these settings, as `up` would: the running server may have been started with others.
        create(settings, runtime.name, runtime.device, setup=True).check_ports()
    except OpsError as e:
        return Finding("ports", "fail", e.found, e.remedy)
    ours = runtime.status()["server"]["state"] == "running"
    return Finding(
        "ports", "ok", f"{', '.join(map(str, settings.ports.values()))} {'ours' if ours else 'free'}"
    )


def _python(parts: List[str]) -> Finding:
    reason = environments.supported() if environments.stale(parts) else None
    version = platform.python_version()
    return Finding("Python", "fail" if reason else "ok", reason or version, "python3.12 ./scripts/up")


def _paths(settings: Settings) -> Finding:
    """Lists of folders (PYTHONPATH, LD_LIBRARY_PATH) are split at these signs; nothing can quote them."""
    folders = {"the checkout": ROOT, "VENVS_DIR": environments.FOLDER}
    bad = [f"{name}: {path}" for name, path in folders.items() if re.search("[:;\n]", str(path))]
    bad += [f"MODELS_DIR: {settings.models_dir}"] if "\n" in str(settings.models_dir) else []
    return Finding(
        "folders",
        "fail" if bad else "ok",
        f"a colon, a semicolon or a line break in the path of {'; '.join(bad)}" if bad else f"{ROOT}",
        "move it to a path without them; blanks and other signs are fine",
    )


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
    free = shutil.disk_usage(_SHM).free >> 20 if _SHM.is_dir() else 0
    return Finding(
        str(_SHM),
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
