"""A real Docker Engine and our images, built once; every test here skips, in words, where there is none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ops.probe import ask
from ops.runtimes import build_secrets
from ops.runtimes.detection import compose_problem, engine_problem
from support.compose import CPU, Project, docker, must, readable
from support.models import write_scale
from support.stack import ROOT

STANDIN_PYTHON = "standin/python:3.11"
STANDIN_BUILDER_PYTHON = "standin/python:3.13-bullseye"
STANDIN_TENSORRT = "standin/tensorrt:22.11-py3"
TEST = "tensorflow-triton-test"  # names of images that only the tests use


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the engine comes before the tests that restart it."""
    items.sort(key=lambda item: item.name.startswith("test_restart_of_the_engine"))


def _has(image: str) -> bool:
    return ask(["docker", "image", "inspect", "--format", "{{.Id}}", image]) is not None


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Put the docker command of `.ci/engine` first, and name the base image that this machine has."""
    path = subprocess.run([ROOT / ".ci" / "engine", "path"], capture_output=True, text=True, check=True)
    if Path(path.stdout.strip()).is_dir():
        os.environ["PATH"] = f"{path.stdout.strip()}{os.pathsep}{os.environ['PATH']}"
    problem = engine_problem() or compose_problem()
    if problem:
        pytest.skip(f"{problem}: run .ci/engine install, start and base")
    if not os.environ.get("PYTHON_IMAGE") and _has(STANDIN_PYTHON):
        os.environ["PYTHON_IMAGE"] = STANDIN_PYTHON
    base = os.environ.get("PYTHON_IMAGE") or "python:3.12-slim-bookworm"
    if not _has(base) and ask(["docker", "manifest", "inspect", base]) is None:
        pytest.skip(f"{base} is not here and cannot be pulled: run .ci/engine base, or set PYTHON_IMAGE")


def build(files: str, *services: str, **environ: str) -> None:
    """`docker compose build` with this machine's package settings, as ./scripts/up does it."""
    with build_secrets.handed() as secrets:
        env = {**os.environ, "COMPOSE_FILE": files, **secrets, **environ}
        must(docker("compose", "build", *services, env=env, timeout=900))


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The CPU stack's images by component."""
    build(CPU, "builder", "triton", "client")
    return {
        "builder": "tensorflow-triton/builder:cpu",
        "server": "tensorflow-triton/server:cpu",
        "client": "tensorflow-triton/client",
    }


@pytest.fixture(scope="session")
def chipless(images: dict[str, str]) -> dict[str, str]:
    """Knobs with which the GPU files run here: NVIDIA's two images replaced, the chip left out.

    TensorRT's by a bare system of its glibc with a recorded fake of trtexec, Triton's by the CPU server with
    a fake TensorRT backend. See tests/fakes.
    """
    python = os.environ.get("BUILDER_PYTHON_IMAGE") or STANDIN_BUILDER_PYTHON
    for image, name in ((STANDIN_TENSORRT, "tensorrt"), (python, "builder-python")):
        if not _has(image):
            pytest.skip(f"{image} is not here: run .ci/engine base {name}")
    knobs = {"BUILDER_PYTHON_IMAGE": python}
    for knob, base, target in (
        ("TENSORRT_IMAGE", STANDIN_TENSORRT, "tensorrt"),
        ("TRITON_IMAGE", images["server"], "tritonserver"),
    ):
        knobs[knob] = f"{TEST}/{target}:22.11-py3"
        argv = ["--file", "tests/docker/standins.Dockerfile", "--build-arg", f"BASE_IMAGE={base}"]
        must(docker("build", "--quiet", *argv, "--target", target, "--tag", knobs[knob], "tests"))
    knobs["COMPOSE_FILE"] = "compose.yaml:tests/docker/chipless.yaml"
    build(
        knobs["COMPOSE_FILE"], "builder", "triton", **{k: v for k, v in knobs.items() if k != "COMPOSE_FILE"}
    )
    return knobs


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of small specs that the containers' user can read: scale.yaml gives twice its input."""
    folder = tmp_path_factory.mktemp("specs")
    write_scale(folder)
    return readable(folder)


@pytest.fixture
def projects(images: dict[str, str]) -> Iterator[Callable[..., Project]]:
    """Makes Compose projects, and removes them with their volumes."""
    made: list[Project] = []

    def make(**kwargs: str | Path) -> Project:
        made.append(Project(**kwargs))
        return made[-1]

    yield make
    for project in made:
        project.remove()


@pytest.fixture
def project(projects: Callable[..., Project], specs: Path) -> Project:
    """A Compose project whose MODELS is the small model `scale`."""
    return projects(specs=specs)
