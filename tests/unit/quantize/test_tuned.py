"""INT8 among the variants that tune tries: where the gate passes, and never twice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.stack import ROOT

from builder.release import build as pipeline
from builder.release.store import Store
from builder.variants import candidates

Change = Callable[..., Path]


def variants(
    folder: Path, store: Store, engine: str, wanted: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What becomes of each variant of the folder's spec, whose release is built first."""
    spec = folder / "net.yaml"
    row = pipeline.build(spec, store, engine, allow_untrained=False, force=False)
    origin = candidates.Origin(spec, store.folder("net", row["version"]), engine)
    scratch = Store(store.root.parent / "scratch")
    return {row["name"]: row for row in candidates.make(origin, wanted, scratch)}


@pytest.fixture
def plain(change: Change) -> Callable[[Path], dict[str, Any]]:
    """Make a folder's spec FP16; what it would say to be INT8 again, as tune says it."""

    def plain(folder: Path) -> dict[str, Any]:
        change(folder, precision=None, calibration=None)
        return {"precision": "int8_fp16", "calibration": {"file": str(folder / "train.npy")}}

    return plain


def test_a_live_release_of_another_precision_gets_an_int8_engine(
    net: Path, store: Store, plain: Callable[[Path], dict[str, Any]]
) -> None:
    int8 = plain(net)
    found = variants(
        net, store, "onnxruntime", {"as": {}, "int8": int8, "two": {**int8, "batch": {"max": 64}}}
    )
    assert [row["ok"] for row in found.values()] == [True, True, True], found
    assert [row["engine"] for row in found.values()] == [
        "engine-32-32",
        "engine-32-32-int8",
        "engine-32-64-int8",
    ]
    repository = store.root.parent / "scratch" / "repository"
    models = {name: (repository / name / "1" / "model.onnx").read_bytes() for name in found}
    assert models["int8"] == models["two"] != models["as"]
    assert b"QuantizeLinear" in models["int8"]
    assert b"QuantizeLinear" not in models["as"]


def test_what_the_gate_refuses_is_no_candidate(
    fragile: Path, store: Store, plain: Callable[[Path], dict[str, Any]]
) -> None:
    int8 = {**plain(fragile), "int8": {"max_left_out": 0}}
    row = variants(fragile, store, "onnxruntime", {"int8": int8})["int8"]
    assert not row["ok"]
    assert "INT8 is not good enough" in row["error"]


def test_a_live_int8_release_is_built_for_tensorrt_with_its_own_precision(
    net: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "trtexec"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "tests/fakes/trtexec.py"}" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("TRTEXEC", str(tool))
    found = variants(net, store, "tensorrt", {"large": {"batch": {"opt": 32}}})
    assert found["large"]["ok"], found
    scratch = Store(tmp_path / "scratch")
    made = scratch.manifest(found["large"]["engine"], found["large"]["version"])
    argv = made["engine"]["argv"]
    assert ("--fp16" in argv, "--int8" in argv) == (True, True)
    assert "quantization" not in made, "its ONNX file was quantized before"
    live = store.manifest("net", 1)["contract"]["tolerance"]
    assert live["top1"] != 0.99, "by what quantizing changed"
    assert made["contract"]["tolerance"] == live
