"""What nvidia-smi says of the GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.engine import gpu

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
