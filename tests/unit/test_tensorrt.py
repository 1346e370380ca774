"""The trtexec that the builder finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.stack import ROOT

from builder.engine.tensorrt import TensorRT


def test_a_relative_trtexec_still_runs_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin" / "trtexec"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/fakes/trtexec.py" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRTEXEC", "bin/trtexec")
    assert TensorRT.find()._binary == str(tool)
