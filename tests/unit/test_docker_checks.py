"""Which driver and GPU go with which tag, and what `doctor` and `up` say where Docker is not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ops.checks.docker import Gpu, driver_and_gpu, gpus, same_tag, wants
from ops.probe import version
from ops.settings import load
from support.stack import ROOT, free_ports


def levels(tag: str, gpu: Gpu) -> dict[str, str]:
    return {f.name: f.level for f in driver_and_gpu(tag, gpu)}


def test_the_recorded_gpu_is_fit_for_2211(sample: Callable[[str], str]) -> None:
    rows = [line.rpartition(",")[0] for line in sample("nvidia_smi.csv").splitlines()[1:]]
    [gpu] = gpus("\n".join(rows))
    assert gpu == Gpu("NVIDIA H200", (9, 0), (580, 159, 4))
    assert levels("22.11", gpu) == {"driver": "ok", "GPU": "ok"}


@pytest.mark.parametrize(
    ("tag", "driver", "level"),
    [
        ("22.11", (520, 61), "ok"),
        ("22.11", (515, 65), "warn"),
        ("22.11", (440, 33), "fail"),
        ("23.08", (535, 54), "ok"),
        ("23.08", (520, 61), "fail"),
        ("24.08", (550, 1), "warn"),
        ("25.01", (570, 86), "ok"),
        ("latest", (570, 86), "warn"),
        ("22.10", (570, 86), "warn"),
    ],
)
def test_driver_for_a_tag(tag: str, driver: tuple[int, ...], level: str) -> None:
    assert levels(tag, Gpu("a GPU", (8, 6), driver))["driver"] == level


def test_a_gpu_that_is_too_new_is_told_the_tag_it_needs() -> None:
    findings = {f.name: f for f in driver_and_gpu("22.11", Gpu("NVIDIA B200", (10, 0), (580, 1)))}
    assert findings["GPU"].level == "fail"
    assert "compute capability 10.0" in findings["GPU"].detail
    assert findings["GPU"].remedy == "NGC_TAG=25.01 or newer"
    assert levels("25.03", Gpu("NVIDIA B200", (10, 0), (580, 1))) == {"driver": "ok", "GPU": "ok"}


def test_a_capability_that_is_not_told_is_said_and_not_skipped() -> None:
    [gpu] = gpus("Tesla V100, Tesla V100, 450.80.02")  # asked without the field that the driver lacks
    findings = {f.name: f for f in driver_and_gpu("22.11", gpu)}
    assert findings["GPU"].level == "warn"
    assert "does not tell the compute capability" in findings["GPU"].detail


def test_the_table_takes_the_entry_before_a_tag() -> None:
    entries = {tag: wants(tag) for tag in ("22.11", "22.12", "23.07", "24.05")}
    assert {tag: entry.tag for tag, entry in entries.items() if entry} == {
        "22.11": "22.11",
        "22.12": "22.11",
        "23.07": "23.03",
        "24.05": "23.11",
    }


def test_tags_that_differ() -> None:
    assert same_tag(load({})) is None
    differ = same_tag(load({"TENSORRT_IMAGE": "mirror.local/tensorrt:22.12-py3"}))
    assert differ == "TensorRT's image is 22.12-py3, Triton's is 22.11-py3"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("v2.26.1-4", (2, 26, 1)),
        ("26.1.5+dfsg1", (26, 1, 5)),
        ("5.0.0-desktop.1", (5, 0, 0)),
        ("", None),
        ("dev", None),
    ],
)
def test_versions(text: str, numbers: tuple[int, ...] | None) -> None:
    assert version(text) == numbers


class Machine:
    """A machine as its `docker` and `nvidia-smi` describe it; nothing else of Docker is on its PATH."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir()
        for tool in ("sh", "cat", "uname", "ldconfig"):
            (self._folder / tool).symlink_to(Path("/bin") / tool)
        self.http, self.grpc, self.metrics = free_ports(3)

    def docker(self, *, engine: str = "26.1.5", compose: str = "2.26.1", runtimes: str = "runc") -> None:
        known = f'case "$*" in "version "*) echo "{engine}";; "compose version"*) echo "{compose}";; '
        known += f"*Runtimes*) echo '{{\"{runtimes}\": {{}}}}';; *DockerRootDir*) echo /;; "
        known += '"buildx version") echo v0.13;; "image inspect"*) echo sha256:0;; *) exit 1;; esac'
        self._write("docker", known)

    def gpu(self, capability: str = "8.9", driver: str = "535.54.03") -> None:
        self._write(
            "nvidia-smi",
            f'case "$*" in -L) echo "GPU 0";; *) echo "NVIDIA L4, {capability}, {driver}";; esac',
        )

    def doctor(self, *args: str, **environ: str) -> dict[str, dict[str, Any]]:
        env = {
            "PATH": str(self._folder),
            "HTTP_PORT": str(self.http),
            "GRPC_PORT": str(self.grpc),
            "METRICS_PORT": str(self.metrics),
            "MODELS_DIR": str(self._folder / "models"),
            "VENVS_DIR": os.environ.get("VENVS_DIR") or str(ROOT / ".venvs"),
            **environ,
        }
        argv = [sys.executable, str(ROOT / "scripts" / "doctor"), "--json", "--runtime", "docker", *args]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout, done.stderr
        found = {f["name"]: f for f in json.loads(done.stdout)}
        assert (done.returncode == 1) == any(f["level"] == "fail" for f in found.values())
        for finding in found.values():
            assert finding["level"] == "ok" or finding["remedy"], f"{finding} has no remedy"
        return found

    def _write(self, name: str, script: str) -> None:
        path = self._folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "bin")


def test_doctor_no_engine(machine: Machine) -> None:
    assert machine.doctor()["Docker Engine"]["detail"] == "there is no docker command"
    machine.docker(engine="")
    found = machine.doctor()["Docker Engine"]
    assert (found["level"], found["detail"]) == ("fail", "no Docker Engine answers")


def test_doctor_engine_too_old(machine: Machine) -> None:
    machine.docker(engine="20.10.24+dfsg1")
    found = machine.doctor()["Docker Engine"]
    assert (found["level"], found["detail"]) == ("fail", "Docker Engine is 20.10.24, older than 23.0")


def test_doctor_compose_too_old(machine: Machine) -> None:
    machine.docker(compose="v2.17.2")
    found = machine.doctor()["Docker Compose"]
    assert (found["level"], found["detail"]) == ("fail", "docker compose is 2.17.2, older than 2.24.4")


def test_doctor_no_nvidia_runtime(machine: Machine) -> None:
    machine.docker()
    machine.gpu()
    found = machine.doctor("--device", "gpu")["GPU in Docker"]
    assert found["level"] == "fail"
    assert "Docker has no NVIDIA runtime" in found["detail"]
    assert "nvidia-container-toolkit" in found["remedy"]
    machine.docker(runtimes="nvidia")
    assert machine.doctor("--device", "gpu")["GPU in Docker"]["level"] == "ok"


def test_doctor_driver_too_old_and_gpu_too_new(machine: Machine) -> None:
    machine.docker(runtimes="nvidia")
    machine.gpu(capability="12.0", driver="440.33.01")
    found = machine.doctor("--device", "gpu")
    assert found["driver"]["level"] == "fail"
    assert "22.11 asks for 520 or newer" in found["driver"]["detail"]
    assert found["GPU"]["level"] == "fail"
    assert "compute capability 12.0" in found["GPU"]["detail"]


def test_doctor_tags_that_differ(machine: Machine) -> None:
    machine.docker(runtimes="nvidia")
    machine.gpu()
    found = machine.doctor("--device", "gpu", TRITON_IMAGE="local/triton:23.01-py3")["NGC tags"]
    assert found["level"] == "fail"
    assert "23.01-py3" in found["detail"]
