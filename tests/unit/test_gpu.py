"""What nvidia-smi says of the GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.engine import gpu
from builder.errors import EngineError

HEAD = "name, compute_cap, driver_version, memory.total [MiB]\n"


def test_the_recorded_answer_is_read(sample: Callable[[str], str]) -> None:
    assert gpu.parse(sample("nvidia_smi.csv")) == {
        "name": "NVIDIA H200",
        "compute_capability": "9.0",
        "driver": "580.159.04",
        "memory_mib": 143771,
    }


def test_the_first_of_several_gpus_is_taken() -> None:
    found = gpu.parse(HEAD + "A, 9.0, 1.2, 10 MiB\nB, 8.0, 1.2, 20 MiB\n")
    assert found is not None
    assert found["name"] == "A"


@pytest.mark.parametrize("memory", ["[N/A]", "[Not Supported]", ""])
def test_memory_that_is_not_told_is_none(memory: str) -> None:
    found = gpu.parse(f"{HEAD}Orin, 8.7, 540.4.0, {memory}\n")
    assert found is not None
    assert found["memory_mib"] is None


@pytest.mark.parametrize("text", ["", "\n", HEAD, "No devices were found", HEAD + "A, 9.0\n"])
def test_an_answer_without_a_gpu_gives_none(text: str) -> None:
    assert gpu.parse(text) is None


def test_a_machine_without_nvidia_smi_has_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.detect() is None


def test_the_gpu_that_cuda_takes_first_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nprintf "%s\\n" "{HEAD.strip()}" "A, 9, 1, 5 MiB"\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0")
    found = gpu.detect()
    assert found is not None
    assert found["name"] == "A"
    assert "--id=2" in (tmp_path / "asked").read_text()


OLD = """#!/bin/sh
case "$*" in
  *compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2 ;;
  *) printf '%s\\n' 'name, driver_version, memory.total [MiB]' 'Tesla V100, 450.80.02, 16160 MiB' ;;
esac
"""
MIG = """#!/bin/sh
case "$*" in
  *GPU-a1*) printf '%s\\n' "name, driver_version, memory.total [MiB], compute_cap" \\
      "NVIDIA A100-SXM4-40GB, 535.1, 40960 MiB, 8.0" ;;
  -L) cat <<'END'
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-a0)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-a1)
  MIG 3g.20gb     Device  0: (UUID: MIG-b0)
  MIG 1g.5gb      Device  1: (UUID: MIG-b1)
END
  ;;
  *) echo "No devices were found"; exit 6 ;;
esac
"""


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put an nvidia-smi with this text on PATH."""

    def put(text: str) -> None:
        (tmp_path / "nvidia-smi").write_text(text)
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return put


def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(
    smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(MIG)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(EngineError) as error:
        gpu.detect()
    assert error.value.found == "GPU_ID is 7: nvidia-smi finds no such GPU"
    assert "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-a1)" in error.value.expected


def test_a_driver_that_does_not_tell_the_capability_is_told_of(
    smi: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    smi(OLD)
    assert gpu.detect() == {
        "name": "Tesla V100",
        "compute_capability": None,
        "driver": "450.80.02",
        "memory_mib": 16160,
    }
    assert "nvidia-smi (driver 450.80.02) does not tell the compute capability" in capsys.readouterr().err


def test_a_part_of_a_gpu_is_named_as_cuda_names_it(
    smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    smi(MIG)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-b1")
    found = gpu.detect()
    assert found is not None
    assert (found["name"], found["compute_capability"]) == ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "8.0")
    assert found["memory_mib"] is None
