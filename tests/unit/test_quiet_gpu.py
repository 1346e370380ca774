"""Waiting for a quiet GPU; nvidia-smi is a fake that says what the test wrote down, a line a look."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.engine import gpu, quiet


@pytest.fixture
def busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a fake nvidia-smi on PATH that answers these, one after the other, the last one for ever."""

    def put(*answers: object) -> Path:
        said = tmp_path / "answers"
        said.write_text("".join(f"{a}\n" for a in answers))
        asked = tmp_path / "asked"
        fake = tmp_path / "nvidia-smi"
        fake.write_text(
            f'#!/bin/sh\necho "$*" >> {asked}\nn=$(wc -l < {asked})\nm=$(wc -l < {said})\n'
            f'[ "$n" -gt "$m" ] && n=$m\nsed -n "${{n}}p" {said}\n'
        )
        fake.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        return asked

    monkeypatch.setattr(quiet, "_LOOK", 0.01)
    monkeypatch.setattr(quiet, "_LULL", 0.05)
    return put


def test_the_gpu_that_is_asked_is_the_one_that_builds(
    busy: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = busy(37)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1,GPU-2")
    assert gpu.busy_percent() == 37
    assert "--query-gpu=utilization.gpu" in asked.read_text()
    assert "--id=GPU-1" in asked.read_text()


def test_a_build_beside_a_load_says_so(busy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    busy(88)
    assert quiet.before_build(None) == 88
    said = capsys.readouterr().err
    assert "busy (88 %)" in said
    assert "--quiet-gpu" in said


def test_a_quiet_gpu_is_not_spoken_of(busy: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    busy(3)
    assert quiet.before_build(None) == 3
    assert capsys.readouterr().err == ""


def test_it_waits_for_a_lull_that_lasts(
    busy: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = busy(50, 90, 2, 80, 1)  # one quiet look between two busy ones is no lull
    assert quiet.before_build(1.0) == 1
    assert len(asked.read_text().splitlines()) > 5
    said = capsys.readouterr().err
    assert "waiting for the GPU to be quiet: it is 90 % busy; 60 s are left" in said


def test_it_builds_all_the_same_when_the_time_is_over(
    busy: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    busy(70)
    assert quiet.before_build(0.1 / 60) == 70
    assert "was not quiet" in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["[N/A]", "No devices were found"])
def test_where_nobody_can_tell_it_does_not_wait(
    busy: Callable[..., Path], capsys: pytest.CaptureFixture[str], answer: str
) -> None:
    busy(answer)
    assert quiet.before_build(5.0) is None
    assert "building at once" in capsys.readouterr().err
    assert quiet.before_build(None) is None
