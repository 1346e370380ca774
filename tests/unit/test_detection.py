"""Which way of running is chosen, on machines made of a PATH with a few small programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from ops.errors import OpsError
from ops.runtimes import detection
from ops.settings import ROOT, Settings, load

DOCKER = """#!/bin/sh
case "$1 $2" in
  "version --format") [ -n "{engine}" ] || exit 1; echo "{engine}" ;;
  "compose version") [ -n "{compose}" ] || exit 1; echo "{compose}" ;;
  "buildx version") echo buildx v0.13 ;;
  "info --format") echo '{runtimes}' ;;
  "image inspect") {image} ;;
  "manifest inspect") exit 1 ;;
esac
"""


class Machine:
    """A machine whose PATH holds only what the test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def program(self, name: str, text: str = "#!/bin/sh\necho here\n") -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def docker(
        self,
        engine: str = "28.0.1",
        compose: str = "2.24.4",
        runtimes: str = "{}",
        image: str = "echo sha256:1",
    ) -> None:
        text = DOCKER.format(engine=engine, compose=compose, runtimes=runtimes, image=image)
        self.program("docker", text)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("TRTEXEC", "TRITON_BACKENDS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(detection, "_TRTEXEC", ())
    return Machine(tmp_path / "bin")


@pytest.fixture
def settings() -> Settings:
    """The committed defaults, whatever this machine's environment says."""
    s = load({}, ROOT / ".env")
    return dataclasses.replace(s, docker={**dict.fromkeys(s.docker, ""), "COMPOSE_FILE": "compose.yaml"})


def test_a_machine_with_nothing_runs_natively_on_its_cpu(machine: Machine, settings: Settings) -> None:
    choice = detection.choose("auto", "auto", settings)
    assert (choice.runtime, choice.device) == ("native", "cpu")
    assert "native, because there is no docker command" in choice.why
    assert "CPU, because there is no trtexec on PATH" in choice.why


def test_trtexec_and_tritonserver_make_it_a_gpu(machine: Machine, settings: Settings) -> None:
    machine.program("trtexec")
    machine.program("tritonserver")
    choice = detection.choose("auto", "auto", settings)
    assert (choice.runtime, choice.device) == ("native", "gpu")


def test_trtexec_alone_is_no_gpu(machine: Machine, settings: Settings) -> None:
    machine.program("trtexec")
    assert detection.gpu_problem("native") == "there is no tritonserver on PATH"


def test_trtexec_is_found_where_its_variable_says(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.program("tritonserver")
    elsewhere = Machine(tmp_path / "elsewhere")
    elsewhere.program("mytrtexec")
    monkeypatch.setenv("TRTEXEC", str(tmp_path / "elsewhere" / "mytrtexec"))
    assert detection.gpu_problem("native") is None


def test_a_relative_trtexec_is_relative_to_where_the_operator_is(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.program("mytrtexec")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRTEXEC", "bin/mytrtexec")
    assert detection.trtexec() == str(tmp_path / "bin" / "mytrtexec")


def test_a_gpu_asked_for_that_is_not_there_is_refused_with_what_is_missing(
    machine: Machine, settings: Settings
) -> None:
    with pytest.raises(OpsError) as error:
        detection.choose("native", "gpu", settings)
    assert "--device gpu: there is no trtexec on PATH" in str(error.value)
    assert "--device cpu" in error.value.remedy


def test_the_cpu_is_taken_as_asked_even_with_a_gpu(machine: Machine, settings: Settings) -> None:
    machine.program("trtexec")
    machine.program("tritonserver")
    assert detection.choose("native", "cpu", settings).device == "cpu"


def test_docker_is_taken_where_an_engine_answers(machine: Machine, settings: Settings) -> None:
    machine.docker()
    choice = detection.choose("auto", "auto", settings)
    assert (choice.runtime, choice.device) == ("docker", "cpu")
    assert "nvidia-smi finds no GPU" in choice.why


def test_docker_with_nvidia_s_runtime_and_a_gpu_is_the_product(machine: Machine, settings: Settings) -> None:
    machine.docker(runtimes='{"nvidia": {}}')
    machine.program("nvidia-smi")
    choice = detection.choose("auto", "auto", settings)
    assert (choice.runtime, choice.device) == ("docker", "gpu")


def test_a_gpu_that_docker_cannot_reach_is_told(machine: Machine) -> None:
    machine.docker(runtimes='{"runc": {}}')
    machine.program("nvidia-smi")
    assert "nvidia-container-toolkit" in str(detection.gpu_problem("docker"))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"engine": ""}, "no Docker Engine answers"),
        ({"engine": "20.10.24"}, "20.10.24, older than"),
        ({"compose": ""}, "there is no docker compose"),
        ({"compose": "v2.23.3"}, "2.23.3, older than 2.24.4"),
        ({"image": "exit 1"}, "is not here and cannot be pulled"),
    ],
    ids=str,
)
def test_a_docker_that_will_not_do_is_passed_over_with_the_reason(
    machine: Machine, settings: Settings, facts: dict[str, str], words: str
) -> None:
    machine.docker(**facts)
    choice = detection.choose("auto", "cpu", settings)
    assert choice.runtime == "native"
    assert words in choice.why
    with pytest.raises(OpsError, match="--runtime docker"):
        detection.choose("docker", "cpu", settings)


@pytest.mark.parametrize("version", ["2.24.4", "v2.24.4", "2.26.1-4", "2.29.1+ds1", "5.0.0"])
def test_a_new_enough_compose_is_known_however_it_writes_its_version(machine: Machine, version: str) -> None:
    machine.docker(compose=version)
    assert detection.docker_problem([]) is None


def test_the_tensorrt_backend_is_seen_beside_the_server(machine: Machine, tmp_path: Path) -> None:
    machine.program("tritonserver")
    assert detection.tensorrt_backend() is None
    library = tmp_path / "backends" / "tensorrt" / "libtriton_tensorrt.so"
    library.parent.mkdir(parents=True)
    library.touch()
    assert detection.tensorrt_backend() == library
