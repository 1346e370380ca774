"""What running with Docker relies on, checked: engine, Compose, images, GPU, driver, volume, disk."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List, Optional, Tuple

from ops.checks.findings import Finding
from ops.probe import ask, dotted, version
from ops.runtimes.detection import (
    OLDEST_COMPOSE,
    OLDEST_ENGINE,
    base_images,
    compose_problem,
    docker_problem,
    engine_problem,
    gpu_problem,
)
from ops.runtimes.docker.naming import project_name, volume_name
from ops.settings import Settings

# The images, what they are built on and a release, in MiB: CPU as measured, GPU as NVIDIA's images unpack.
_DISK_MIB = {"cpu": 5000, "gpu": 35000}


@dataclass(frozen=True)
class Tag:
    """What NVIDIA's images want from this tag on, as their release notes say.

    Attributes:
        driver: the driver they ask for.
        oldest: the first driver of the same CUDA generation, with which they often work all the same.
        newest_gpu: the highest compute capability that their TensorRT builds for.
    """

    tag: str
    driver: int
    oldest: int
    newest_gpu: Tuple[int, ...]


_TAGS = (
    Tag("22.11", 520, 450, (9, 0)),
    Tag("23.01", 525, 525, (9, 0)),
    Tag("23.03", 530, 525, (9, 0)),
    Tag("23.08", 535, 525, (9, 0)),
    Tag("23.11", 545, 525, (9, 0)),
    Tag("24.06", 555, 525, (9, 0)),
    Tag("24.08", 560, 525, (9, 0)),
    Tag("25.01", 570, 525, (12, 0)),
)


@dataclass(frozen=True)
class Gpu:
    """A GPU as nvidia-smi names it."""

    name: str
    capability: Tuple[int, ...]
    driver: Tuple[int, ...]


def before_up(settings: Settings, device: str) -> Iterator[Finding]:
    """What can stop `up` although an engine answers."""
    if device == "gpu":
        yield from _gpu(settings)
        yield _tags(settings)
    yield _volume(settings)
    yield _disk(settings, device)


def findings(settings: Settings, device: str) -> Iterator[Finding]:
    """Everything, for `doctor`; stops at the first thing without which the rest cannot be asked."""
    problem = engine_problem()
    found = version(ask(["docker", "version", "--format", "{{.Server.Version}}"])) or ()
    yield Finding(
        "Docker Engine",
        "fail" if problem else "ok",
        problem or dotted(found),
        f"install Docker Engine {dotted(OLDEST_ENGINE)} or newer, start it, and let this user reach it",
    )
    if problem:
        return
    problem = compose_problem()
    found = version(ask(["docker", "compose", "version", "--short"])) or ()
    yield Finding(
        "Docker Compose",
        "fail" if problem else "ok",
        problem or dotted(found),
        f"install the plugins docker-compose {dotted(OLDEST_COMPOSE)} or newer, and docker-buildx",
    )
    if problem:
        return
    images = base_images(settings, device)
    problem = docker_problem(images)
    yield Finding(
        "base images",
        "fail" if problem else "ok",
        problem or ", ".join(images),
        "docker pull it, or name one that is here: PYTHON_IMAGE, BUILDER_PYTHON_IMAGE, TENSORRT_IMAGE, "
        "TRITON_IMAGE in .env",
    )
    gpu = gpu_problem("docker")
    yield Finding(
        "GPU in Docker",
        "ok" if gpu is None else "fail" if device == "gpu" else "warn",
        gpu or "nvidia-smi and the container toolkit answer",
        "install the NVIDIA driver and nvidia-container-toolkit, then: nvidia-ctk runtime configure"
        + ("" if device == "gpu" else " (only needed for --device gpu)"),
    )
    yield from _gpu(settings)
    yield _tags(settings)
    yield _volume(settings)
    yield _disk(settings, device)


def gpus(text: str) -> List[Gpu]:
    """``nvidia-smi --query-gpu=name,compute_cap,driver_version --format=csv,noheader``, read."""
    rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if len(row) == 3]
    return [Gpu(row[0], version(row[1]) or (), version(row[2]) or ()) for row in rows]


def wants(tag: str) -> Optional[Tag]:
    """What the images of ``tag`` want; None for a tag that is older than the table or no NGC tag."""
    if not re.fullmatch(r"\d\d\.\d\d", tag):
        return None
    return next((t for t in reversed(_TAGS) if t.tag <= tag), None)


def driver_and_gpu(tag: str, gpu: Gpu) -> Iterator[Finding]:
    """Whether the images of ``tag`` can drive ``gpu``."""
    needs = wants(tag)
    if needs is None:
        yield Finding(
            "driver", "warn", f'nothing is known of NGC_TAG "{tag}"', "set NGC_TAG to 22.11 or newer"
        )
        return
    major = gpu.driver[0] if gpu.driver else 0
    level = "ok" if major >= needs.driver else "warn" if major >= needs.oldest else "fail"
    yield Finding(
        "driver",
        level,
        f"{dotted(gpu.driver)}, and {tag} asks for {needs.driver} or newer",
        f"install driver {needs.driver} or newer, or set NGC_TAG to an older tag"
        + (f" (data-center GPUs may work from {needs.oldest} on)" if level == "warn" else ""),
    )
    if not gpu.capability:
        yield Finding(
            "GPU",
            "warn",
            f"{gpu.name}: its driver does not tell the compute capability, so nothing says whether TensorRT "
            f"of {tag} builds for it (up to {dotted(needs.newest_gpu)})",
            "install a newer driver, or look at the first lines of trtexec's log",
        )
        return
    too_new = gpu.capability > needs.newest_gpu
    newer = next((t.tag for t in _TAGS if t.newest_gpu >= gpu.capability), "a newer tag")
    yield Finding(
        "GPU",
        "fail" if too_new else "ok",
        f"{gpu.name}, compute capability {dotted(gpu.capability)}; TensorRT of {tag} builds up to "
        f"{dotted(needs.newest_gpu)}",
        f"NGC_TAG={newer}" + ("" if newer == "a newer tag" else " or newer"),
    )


def same_tag(settings: Settings) -> Optional[str]:
    """How the tags of the two NVIDIA images differ; None when they agree."""
    tags = [image.rpartition(":")[2] for image in base_images(settings, "gpu")[:2]]
    return None if tags[0] == tags[1] else f"TensorRT's image is {tags[0]}, Triton's is {tags[1]}"


def _gpu(settings: Settings) -> Iterator[Finding]:
    # Of a part of a GPU (MIG) nvidia-smi tells nothing here: then all are looked at, as they are of one kind.
    which = [] if settings.gpu_id.startswith("MIG-") else [f"--id={settings.gpu_id}"]
    query = ["nvidia-smi", "--format=csv,noheader", *which]
    found = gpus(ask([*query, "--query-gpu=name,compute_cap,driver_version"]) or "")
    # A driver that does not know a field answers nothing at all.
    found = found or gpus(ask([*query, "--query-gpu=name,name,driver_version"]) or "")
    if not found and which and ask(["nvidia-smi", "-L"]):
        yield Finding(
            "GPU", "fail", f"nvidia-smi finds no GPU {settings.gpu_id}", "nvidia-smi -L, then set GPU_ID"
        )
    for gpu in found:
        yield from driver_and_gpu(settings.ngc_tag, gpu)


def _tags(settings: Settings) -> Finding:
    differ = same_tag(settings)
    return Finding(
        "NGC tags",
        "fail" if differ else "ok",
        differ or f"one for both images: {settings.ngc_tag}",
        "a plan loads only in the TensorRT that built it: leave TENSORRT_IMAGE and TRITON_IMAGE to NGC_TAG, "
        "or give both the same tag",
    )


def _volume(settings: Settings) -> Finding:
    """Whether the containers' user owns the models volume."""
    name = volume_name(project_name(settings))
    mountpoint = ask(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", name])
    if mountpoint is None:
        return Finding("Docker volume", "ok", f"{name} is made at the first start")
    owner = _owner(Path(mountpoint), name)
    return Finding(
        "Docker volume",
        "fail" if owner not in (None, 1000) else "ok",
        f"{name} belongs to user {'1000' if owner is None else owner}",
        "the containers run as user 1000: docker run --rm --user 0 --entrypoint chown --volume "
        f"{name}:/models {_IMAGE} -R 1000:1000 /models",
    )


_IMAGE = "tensorflow-triton/client"
_MODELS_MIB = 100  # for a small model; the builder asks again, by the size of the model that it builds


def _owner(folder: Path, volume: str) -> Optional[int]:
    try:
        return folder.stat().st_uid
    except OSError:  # another machine's disk, or not ours to read
        mount = f"type=volume,source={volume},target=/models,readonly"
        argv = ["docker", "run", "--rm", "--pull=never", "--network=none", "--mount", mount]
        text = ask([*argv, "--entrypoint", "stat", _IMAGE, "-c", "%u", "/models"])
        return int(text) if text and text.isdigit() else None


def _disk(settings: Settings, device: str) -> Finding:
    root = Path(ask(["docker", "info", "--format", "{{.DockerRootDir}}"]) or "/")
    if not root.exists():
        return Finding("disk for Docker", "ok", f"{root} is not on this machine")
    images = base_images(settings, device)
    there = all(ask(["docker", "image", "inspect", "--format", "{{.Id}}", i]) for i in [*images, _IMAGE])
    needed = _MODELS_MIB if there else _DISK_MIB[device]
    free = shutil.disk_usage(root).free >> 20
    return Finding(
        "disk for Docker",
        "ok" if free >= needed else "fail",
        f"{free} MiB free at {root}, {needed} MiB needed",
        "docker system prune, or move Docker's data-root to a larger disk",
    )
