"""What tune's meter asks of trtexec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from triton_stack_client.tune import meter
from triton_stack_client.tune.meter import _Meter


def test_an_engine_is_measured_with_a_cuda_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: Callable[[str], str]
) -> None:
    """Without one a busy host made the better engine of two the worse one, on an H200."""
    (tmp_path / "log").write_text(sample("run_loadinputs.log"))
    program = tmp_path / "trtexec"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ncat {tmp_path}/log\n')
    program.chmod(0o755)
    monkeypatch.setenv("TRTEXEC", str(program))
    chosen = SimpleNamespace(
        inputs=(SimpleNamespace(name="image", dims=(224, 224, 3)),),
        folder=tmp_path,
        version=1,
        engine={"file": "model.plan", "version": "8.5.1"},
    )
    monkeypatch.setattr(meter.release, "read", lambda *_: chosen)
    told = _Meter("perf_analyzer", "", tmp_path, tmp_path).answer(
        {"ask": "engine", "engine": "engine-8-32", "release": 1, "batch": 4}
    )
    assert told["images_per_s"] == pytest.approx(4 * 615.03)
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert "--useCudaGraph" in asked
    assert "--shapes=image:4x224x224x3" in asked
