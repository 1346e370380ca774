"""Small models with their golden samples, made without TensorFlow: specs whose source is an ONNX file."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper

_TYPES = {
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "INT32": (TensorProto.INT32, np.int32),
}


def write_scale(
    folder: Path,
    *,
    name: str = "scale",
    factor: float = 2.0,
    offset: float = 0.0,
    dims: tuple[int, ...] = (6,),
    dtype: str = "FP32",
    max_batch: int = 8,
    weights: str = "",
    **spec_keys: object,
) -> Path:
    """``scores = x * factor + offset`` with x [N, *dims] of ``dtype`` and scores FP32; the spec's path.

    ``weights`` goes into the ONNX file as the exporter would write it; ``spec_keys`` into the spec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind, numpy = _TYPES[dtype]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["xf"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["xf", "factor"], ["scaled"]),
            helper.make_node("Add", ["scaled", "offset"], ["scores"]),
        ],
        name,
        [helper.make_tensor_value_info("x", kind, ["N", *dims])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", *dims])],
        [
            helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]),
            helper.make_tensor("offset", TensorProto.FLOAT, [], [offset]),
        ],
    )
    x = np.random.default_rng(1).uniform(0, 10, (5, *dims)).astype(numpy)
    scores = x.astype(np.float32) * np.float32(factor) + np.float32(offset)
    spec = {
        "inputs": [{"name": "x", "dtype": dtype, "dims": list(dims), "samples": {"uniform": [0, 10]}}],
        "outputs": [{"name": "scores", "dtype": "FP32", "dims": list(dims)}],
        "batch": {"max": max_batch},
        "precision": "fp32",
        "parity": {"max_abs": 1e-4},
        **spec_keys,
    }
    return write_model(folder, name, graph, {"x": x}, {"scores": scores}, spec, weights)


def write_free(folder: Path, **spec_keys: object) -> Path:
    """``y = x * 2`` with x FP32 [N, L] and L from 2 to 9, and ``total`` FP32 [N, 1] its sum; no golden."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "two"], ["y"]),
            helper.make_node("ReduceSum", ["y", "axis"], ["total"], keepdims=1),
        ],
        "free",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", "L"])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", "L"]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["N", 1]),
        ],
        [
            helper.make_tensor("two", TensorProto.FLOAT, [], [2.0]),
            helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        ],
    )
    spec = {
        "inputs": [{"name": "x", "dtype": "FP32", "dims": [{"min": 2, "opt": 6, "max": 9}]}],
        "outputs": [
            {"name": "y", "dtype": "FP32", "dims": [-1]},
            {"name": "total", "dtype": "FP32", "dims": [1]},
        ],
        "batch": {"max": 4},
        "precision": "fp32",
        "parity": {"max_abs": 1e-4, "samples": 5},
        **spec_keys,
    }
    path = write_model(folder, "free", graph, {}, {}, spec, "")
    document = yaml.safe_load(path.read_text())
    del document["source"]["golden"]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return path


def write_lookup(folder: Path, *, name: str = "lookup", rows: int = 10, max_batch: int = 8) -> Path:
    """``value = table[index]`` with index INT32 [N, 1]: an index outside the table fails at run time."""
    folder.mkdir(parents=True, exist_ok=True)
    table = np.arange(rows, dtype=np.float32) * 10
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "index"], ["value"])],
        name,
        [helper.make_tensor_value_info("index", TensorProto.INT32, ["N", 1])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor("table", TensorProto.FLOAT, [rows], table.tolist())],
    )
    index = np.arange(rows, dtype=np.int32)[:, None]
    spec = {
        "inputs": [{"name": "index", "dtype": "INT32", "dims": [1], "samples": {"uniform": [0, rows]}}],
        "outputs": [{"name": "value", "dtype": "FP32", "dims": [1]}],
        # Long enough in the queue for a test's requests to meet in one batch.
        "serving": {"dynamic_batching": {"max_queue_delay_us": 300000}},
        "batch": {"max": max_batch},
        "precision": "fp32",
    }
    return write_model(folder, name, graph, {"index": index}, {"value": table[index]}, spec, "")


def write_ranked(folder: Path, *, name: str = "ranked", max_batch: int = 8) -> Path:
    """Two inputs and two outputs of other dtypes, each pair in the spec in another order than in the graph.

    ``scores`` FP32 [5] = softmax of x * table[row]; ``best`` INT32 [1] = its arg max. The graph, as tf2onnx
    sorts, says best, scores and row, x; the spec says scores, best and x, row. x is FP16 [5], row INT32 [1].
    """
    folder.mkdir(parents=True, exist_ok=True)
    table = np.random.default_rng(2).normal(0, 2, (4, 5)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["xf"], to=TensorProto.FLOAT),
            helper.make_node("Gather", ["table", "row"], ["rows"]),
            helper.make_node("Squeeze", ["rows", "one"], ["weights"]),
            helper.make_node("Mul", ["xf", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=-1),
            helper.make_node("ArgMax", ["logits"], ["best64"], axis=-1, keepdims=1),
            helper.make_node("Cast", ["best64"], ["best"], to=TensorProto.INT32),
        ],
        name,
        [
            helper.make_tensor_value_info("row", TensorProto.INT32, ["N", 1]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["N", 5]),
        ],
        [
            helper.make_tensor_value_info("best", TensorProto.INT32, ["N", 1]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5]),
        ],
        [
            helper.make_tensor("table", TensorProto.FLOAT, table.shape, table.ravel().tolist()),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        ],
    )
    rng = np.random.default_rng(3)
    x, row = rng.normal(0, 1, (8, 5)).astype(np.float16), rng.integers(0, 4, (8, 1), dtype=np.int32)
    logits = x.astype(np.float32) * table[row[:, 0]]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    spec = {
        "inputs": [
            {"name": "x", "dtype": "FP16", "dims": [5]},
            {"name": "row", "dtype": "INT32", "dims": [1], "samples": {"uniform": [0, 4]}},
        ],
        "outputs": [
            {"name": "scores", "dtype": "FP32", "dims": [5]},
            {"name": "best", "dtype": "INT32", "dims": [1]},
        ],
        "batch": {"max": max_batch},
        "precision": "fp32",
        "parity": {"max_abs": 1e-4},
    }
    best = logits.argmax(axis=1).astype(np.int32)[:, None]
    return write_model(folder, name, graph, {"x": x, "row": row}, {"scores": scores, "best": best}, spec, "")


def write_model(
    folder: Path,
    name: str,
    graph: onnx.GraphProto,
    inputs: dict[str, np.ndarray],
    outputs: dict[str, np.ndarray],
    spec: dict[str, object],
    weights: str,
) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    if weights:
        entry = model.metadata_props.add()
        entry.key = "weights"
        entry.value = json.dumps(
            {"kind": weights, "untrained": weights == "untrained", "description": weights}
        )
    onnx.save(model, str(folder / f"{name}.onnx"))
    arrays = {f"input.{k}": v for k, v in inputs.items()}
    arrays.update({f"output.{k}": v for k, v in outputs.items()})
    np.savez(folder / f"{name}.npz", **arrays)
    source = {
        "onnx": f"{name}.onnx",
        "sha256": hashlib.sha256((folder / f"{name}.onnx").read_bytes()).hexdigest(),
        "golden": f"{name}.npz",
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"name": name, "source": source, **spec}, sort_keys=False))
    return path


def write_slow(folder: Path, *, name: str = "slow", max_batch: int = 8) -> Path:
    """``y = x`` with x FP32 [N, 1], after as many products of 512 x 512 matrices as the largest x says."""
    folder.mkdir(parents=True, exist_ok=True)
    flag, trip = helper.make_tensor_value_info("on", TensorProto.BOOL, []), TensorProto.INT64
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["m", "w"], ["m_out"]),
            helper.make_node("Identity", ["on"], ["on_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", trip, []),
            flag,
            helper.make_tensor_value_info("m", TensorProto.FLOAT, [512, 512]),
        ],
        [
            helper.make_tensor_value_info("on_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("m_out", TensorProto.FLOAT, [512, 512]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Cast", ["most"], ["times"], to=trip),
            helper.make_node("Loop", ["times", "", "w"], ["product"], body=body),
            helper.make_node("ReduceMax", ["product"], ["one"], keepdims=0),
            helper.make_node("Mul", ["one", "zero"], ["nothing"]),
            helper.make_node("Add", ["x", "nothing"], ["y"]),
        ],
        name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [
            helper.make_tensor("w", TensorProto.FLOAT, [512, 512], np.eye(512, dtype=np.float32).ravel()),
            helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        ],
    )
    x = np.arange(4, dtype=np.float32)[:, None]
    spec = {
        "inputs": [{"name": "x", "dtype": "FP32", "dims": [1], "samples": {"uniform": [0, 3]}}],
        "outputs": [{"name": "y", "dtype": "FP32", "dims": [1]}],
        "batch": {"max": max_batch},
        "precision": "fp32",
        "parity": {"max_abs": 1e-4},
    }
    return write_model(folder, name, graph, {"x": x}, {"y": x}, spec, "")


def write_noop(folder: Path, *, side: int = 224, max_batch: int = 8) -> Path:
    """A picture in, UINT8 [N, side, side, 3], its first byte out, FP32 [N, 1]: a request without the work."""
    folder.mkdir(parents=True, exist_ok=True)
    corner = ["starts", "ends", "axes"]
    graph = helper.make_graph(
        [
            helper.make_node("Slice", ["image", *corner], ["corner"]),
            helper.make_node("Cast", ["corner"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["cast", "shape"], ["first"]),
        ],
        "noop",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])],
        [helper.make_tensor_value_info("first", TensorProto.FLOAT, ["N", 1])],
        [
            helper.make_tensor("starts", TensorProto.INT64, [3], [0, 0, 0]),
            helper.make_tensor("ends", TensorProto.INT64, [3], [1, 1, 1]),
            helper.make_tensor("axes", TensorProto.INT64, [3], [1, 2, 3]),
            helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 1]),
        ],
    )
    image = np.random.default_rng(1).integers(0, 256, (4, side, side, 3)).astype(np.uint8)
    spec = {
        "inputs": [
            {"name": "image", "dtype": "UINT8", "dims": [side, side, 3], "samples": {"uniform": [0, 255]}}
        ],
        "outputs": [{"name": "first", "dtype": "FP32", "dims": [1]}],
        "batch": {"max": max_batch},
        "precision": "fp32",
        "parity": {"max_abs": 1e-4},
    }
    first = image[:, 0, 0, :1].astype(np.float32)
    return write_model(folder, "noop", graph, {"image": image}, {"first": first}, spec, "")
