"""The trtexec that the builder finds, and what it builds of tensors in any order."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.models import write_ranked
from support.stack import ROOT

from builder.engine import gpu, trtexec
from builder.engine.tensorrt import TensorRT
from builder.errors import EngineError
from builder.release import build
from builder.release.store import Store

FAKE = ROOT / "tests/fakes/trtexec.py"


def test_a_relative_trtexec_still_runs_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "trtexec"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRTEXEC", "bin/trtexec")
    assert TensorRT.find()._binary == str(tool)


def test_tensors_in_another_order_than_the_graph_s_become_a_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "trtexec"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("TRTEXEC", str(tool))
    result = build.build(
        write_ranked(tmp_path / "spec"), Store(tmp_path / "models"), "tensorrt",
        allow_untrained=False, force=False,
    )  # fmt: skip
    formats = [a for a in result["manifest"]["engine"]["argv"] if "IOFormats" in a]
    assert formats == ["--inputIOFormats=int32:chw,fp16:chw", "--outputIOFormats=int32:chw,fp32:chw"]


def test_a_new_command_builds_anew_and_a_new_driver_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "trtexec"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("TRTEXEC", str(tool))
    card = {"name": "NVIDIA H100", "compute_capability": "9.0", "driver": "520", "memory_mib": 81559}
    monkeypatch.setattr(gpu, "detect", lambda: dict(card))
    spec, store = write_ranked(tmp_path / "spec"), Store(tmp_path / "models")

    def build_again() -> tuple[str, int]:
        row = build.build(spec, store, "tensorrt", allow_untrained=False, force=False)
        return row["action"], row["version"]

    assert build_again() == ("built", 1)
    card["driver"] = "580"
    assert build_again() == ("unchanged", 1)
    tool.rename(tmp_path / "moved")
    monkeypatch.setenv("TRTEXEC", str(tmp_path / "moved"))
    assert build_again() == ("unchanged", 1)
    argv = trtexec.build_argv
    monkeypatch.setattr(trtexec, "build_argv", lambda *a, **k: [*argv(*a, **k), "--noTF32"])
    assert build_again() == ("built", 2)
    card["compute_capability"] = "10.0"
    assert build_again() == ("built", 3)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--outputIOFormats=fp32:chw,int32:chw", "best: type fp32 does not fit"),
        ("--inputIOFormats=fp16:chw,int32:chw", "row: type fp16 does not fit"),
        ("--outputIOFormats=int32:chw,fp32:chw,fp32:chw", "number of outputIOFormats must match"),
        ("--inputIOFormats=uint8:chw,fp16:chw", "Invalid DataType uint8"),
    ],
)
def test_the_fake_refuses_formats_that_the_real_trtexec_refuses(
    tmp_path: Path, option: str, words: str
) -> None:
    write_ranked(tmp_path)
    done = subprocess.run(
        [sys.executable, FAKE, f"--onnx={tmp_path}/ranked.onnx", f"--saveEngine={tmp_path}/p", option],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stdout
    assert "&&&& FAILED" in done.stdout


def test_a_build_that_does_not_end_is_stopped_and_publishes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "trtexec"
    tool.write_text(
        f'#!/bin/sh\ncase "$*" in *--help*) exec "{sys.executable}" "{FAKE}" "$@";; esac\nsleep 60\n'
    )
    tool.chmod(0o755)
    monkeypatch.setenv("TRTEXEC", str(tool))
    monkeypatch.setenv("BUILD_SECS", "1")
    store = Store(tmp_path / "models")
    with pytest.raises(EngineError, match="did not end within 1 s") as e:
        build.build(write_ranked(tmp_path / "spec"), store, "tensorrt", allow_untrained=False, force=False)
    assert "a larger BUILD_SECS; to see it again: cd " in e.value.remedy
    assert store.versions("ranked") == []
