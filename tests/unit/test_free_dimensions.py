"""Dimensions that requests choose: from the spec through trtexec, golden samples and parity to the client."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from support.models import write_free
from support.stack import ROOT
from triton_stack_client.bench import cli
from triton_stack_client.contract import Contract
from triton_stack_client.errors import ClientError, ContractError
from triton_stack_client.transport import address, shared_memory
from triton_stack_client.verify import release
from tritonclient.grpc import model_config_pb2 as pb

from builder.engine import trtexec
from builder.errors import EngineError, ExportError, ParityError, SpecError
from builder.export import golden
from builder.release import build
from builder.release.store import Store
from builder.spec import loader
from builder.spec.model import Range, Spec

FREE = {"min": 2, "opt": 6, "max": 9}


@pytest.fixture
def free(tmp_path: Path) -> Spec:
    return loader.load(write_free(tmp_path))


def made(tmp_path: Path, engine: str = "onnxruntime", **keys: object) -> dict[str, Any]:
    result = build.build(
        write_free(tmp_path / "spec", **keys), Store(tmp_path / "models"), engine,
        allow_untrained=False, force=False,
    )  # fmt: skip
    manifest: dict[str, Any] = result["manifest"]
    return manifest


def test_a_range_in_dims_is_a_free_dimension(free: Spec) -> None:
    (x,) = free.inputs
    assert (x.dims, x.ranges) == ((-1,), (Range(2, 6, 9),))
    assert [x.shape(point) for point in free.points] == [(6,), (2,), (9,)]
    assert [o.dims for o in free.outputs] == [(-1,), (1,)]
    assert [x.takes(shape) for shape in ((2,), (9,), (1,), (10,), (2, 2))] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    ("path", "dims", "found", "allowed"),
    [
        ("inputs", [-1], "found -1", "or {min: 8, opt: 64, max: 512}: a free dimension"),
        (
            "inputs",
            [{"min": 4, "opt": 2, "max": 8}],
            "found {",
            "min <= opt <= max; this is min 4, opt 2, max 8",
        ),
        ("inputs", [{"min": 4, "max": 8}], "missing", "keys min, opt, max"),
        ("inputs", [{"min": 0, "opt": 2, "max": 8}], "found 0", "a whole number from 1 to 65536"),
        ("outputs", [-1], "found [-1]", "no input has a free dimension"),
        ("outputs", [-2], "found -2", "or -1: as many as the inputs make it"),
    ],
)
def test_a_free_dimension_that_cannot_be_is_refused(
    document: dict[str, Any], write: Any, path: str, dims: list[Any], found: str, allowed: str
) -> None:
    document[path][0]["dims"] = dims
    with pytest.raises(SpecError) as error:
        loader.load(write(document))
    assert f"{path}[0].dims" in error.value.found
    assert found in error.value.found
    assert allowed in error.value.expected


def test_trtexec_is_given_the_range_at_all_three_points(free: Spec) -> None:
    known = trtexec.Trtexec("8.5.1", frozenset({"--saveEngine", "--buildOnly"}))
    order = trtexec.TensorOrder(("x",), ("y", "total"))
    argv = trtexec.build_argv("t", free, known, order, onnx="m", engine="e")
    assert {"--minShapes=x:1x2", "--optShapes=x:4x6", "--maxShapes=x:4x9"} <= set(argv)


def test_triton_s_configuration_leaves_it_open_and_tells_the_range(tmp_path: Path) -> None:
    made(tmp_path)
    path = tmp_path / "models" / "releases" / "free" / "1" / "model" / "config.pbtxt"
    config = text_format.Parse(path.read_text(), pb.ModelConfig())
    assert [list(t.dims) for t in (*config.input, *config.output)] == [[-1], [-1], [1]]
    assert [(w.batch_size, list(w.inputs["x"].dims)) for w in config.model_warmup] == [(1, [2]), (4, [9])]
    assert json.loads(config.parameters["ranges"].string_value) == {"x": [FREE]}


def test_golden_samples_are_made_at_all_three_points_and_parity_is_held_there(tmp_path: Path) -> None:
    manifest = made(tmp_path)
    assert manifest["contract"]["inputs"][0]["dims"] == [-1]
    assert manifest["contract"]["inputs"][0]["ranges"] == [FREE]
    assert [(r["point"], r["inputs"]) for r in manifest["parity"]["by_shape"]] == [
        ("min", {"x": [2]}), ("max", {"x": [9]}),
    ]  # fmt: skip
    with np.load(tmp_path / "models" / "releases" / "free" / "1" / "golden.npz") as arrays:
        shapes = {name: arrays[name].shape for name in arrays.files if name.startswith("input.")}
    assert shapes == {"input.x": (5, 6), "input.x@min": (5, 2), "input.x@max": (5, 9)}


def test_a_wrong_answer_at_one_end_alone_fails_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from builder.engine.onnxruntime import OnnxRuntime

    run = OnnxRuntime.run

    def wrong(self: Any, spec: Any, engine: Any, inputs: Any, work: Any) -> Any:
        answers = run(self, spec, engine, inputs, work)
        return {k: v + (v.shape[1] == 9) for k, v in answers.items()}

    monkeypatch.setattr(OnnxRuntime, "run", wrong)
    with pytest.raises(ParityError, match="nothing is published"):
        made(tmp_path)


def test_a_samples_file_is_cut_and_repeated_to_the_size(tmp_path: Path) -> None:
    (tmp_path / "spec").mkdir()
    np.save(tmp_path / "spec" / "x.npy", np.array([[1, 2, 3]], np.float32))
    keys = {"inputs": [{"name": "x", "dtype": "FP32", "dims": [FREE], "samples": {"file": "x.npy"}}]}
    s = loader.load(write_free(tmp_path / "spec", **keys))
    assert golden.make_inputs(s, point="min")["x"].tolist() == [[1, 2]]
    assert golden.make_inputs(s)["x"].tolist() == [[1, 2, 3, 1, 2, 3]]


def test_an_onnx_model_without_that_free_dimension_is_refused(tmp_path: Path) -> None:
    inputs = [{"name": "x", "dtype": "FP32", "dims": [6]}]
    outputs = [{"name": "y", "dtype": "FP32", "dims": [6]}, {"name": "total", "dtype": "FP32", "dims": [1]}]
    with pytest.raises(ExportError, match=r"x FP32 \[batch, \?\]"):
        made(tmp_path, inputs=inputs, outputs=outputs)


def test_tensorrt_builds_and_verifies_it_at_all_three_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "trtexec"
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT}/tests/fakes/trtexec.py" "$@"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("TRTEXEC", str(tool))
    manifest = made(tmp_path, "tensorrt")
    assert [r["max_abs"] < 1e-4 for r in manifest["parity"]["by_shape"]] == [True, True]
    from builder.engine.tensorrt import TensorRT

    s = loader.load(tmp_path / "spec" / "free.yaml")
    plan = tmp_path / "models" / "releases" / "free" / "1" / "model" / "1" / "model.plan"
    with pytest.raises(EngineError, match=r"input x is float32 \[1, 10\]"):
        TensorRT.find().run(s, plan, {"x": np.zeros((1, 10), np.float32)}, tmp_path)


@pytest.fixture
def contract() -> Contract:
    metadata = {
        "name": "m", "versions": ["1"],
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, -1]}],
    }  # fmt: skip
    ranges = {"ranges": {"string_value": json.dumps({"x": [FREE]})}}
    return Contract.of(metadata, {"max_batch_size": 4, "parameters": ranges})


@pytest.mark.parametrize(("length", "fits"), [(1, False), (2, True), (7, True), (9, True), (10, False)])
def test_a_client_refuses_what_is_outside_the_range_before_it_travels(
    contract: Contract, length: int, fits: bool
) -> None:
    batch = np.zeros((1, length), np.float32)
    if fits:
        assert contract.check({"x": batch})["x"] is batch
    else:
        with pytest.raises(ContractError, match=r"takes x: FP32 .n, 2 to 9.; given was float32"):
            contract.check({"x": batch})


@pytest.mark.parametrize("ranges", ["", "no json", "[]", '{"x": 3}', '{"x": [{"min": 1}]}'])
def test_a_server_that_does_not_tell_the_range_takes_any_size(ranges: str) -> None:
    metadata = {"name": "m", "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, -1]}], "outputs": []}
    told = Contract.of(metadata, {"max_batch_size": 4, "parameters": {"ranges": {"string_value": ranges}}})
    assert told.check({"x": np.zeros((1, 99), np.float32)})
    with pytest.raises(ContractError):
        told.check({"x": np.zeros((1, 9, 9), np.float32)})


def test_the_release_tells_a_client_the_same_as_the_server(tmp_path: Path, contract: Contract) -> None:
    made(tmp_path)
    found = release.read(tmp_path / "models", "free", 1)
    assert found.inputs[0].ranges == contract.inputs[0].ranges == ((2, 6, 9),)
    assert found.points() == ["min", "max"]
    assert found.golden("max")[1]["y"].shape == (5, 9)


def test_shared_memory_needs_a_fixed_size(contract: Contract) -> None:
    here = address.resolve("grpc://127.0.0.1:1", None)
    assert shared_memory.Slots("auto", here).borrow(contract) is None
    with pytest.raises(ClientError, match="tensors of a fixed size"):
        shared_memory.Slots("system", here).borrow(contract)


def test_bench_refuses_it_and_says_what_to_measure(tmp_path: Path) -> None:
    made(tmp_path)
    with pytest.raises(ClientError, match="free has free dimensions: x: FP32") as error:
        cli._plan(argparse.Namespace(), release.read(tmp_path / "models", "free", 1))
    assert "fixed" in error.value.remedy
