"""An ONNX file against the spec: is it valid, and is its interface the one the spec promises?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

import onnx

from builder.errors import ExportError
from builder.spec.dtypes import DTYPES
from builder.spec.model import Input, Output, Spec

# Where the exporter writes what the weights are; it travels inside the ONNX file.
_WEIGHTS_KEY = "weights"


@dataclass(frozen=True)
class TensorOrder:
    """The names of a graph's inputs and outputs, in its own order: tf2onnx sorts what the spec does not."""

    inputs: Tuple[str, ...]
    outputs: Tuple[str, ...]


def order(path: Path) -> TensorOrder:
    """The order of the tensors in the ONNX file; raises ExportError for another kind of file."""
    graph = _read(path).graph
    return TensorOrder(tuple(i.name for i in _inputs(graph)), tuple(o.name for o in graph.output))


def set_weights(model: onnx.ModelProto, weights: Dict[str, Any]) -> None:
    """Write the weights' provenance into the model's metadata."""
    entry = model.metadata_props.add()
    entry.key, entry.value = _WEIGHTS_KEY, json.dumps(weights)


def get_weights(path: Path) -> Optional[Dict[str, Any]]:
    """The weights' provenance in the ONNX file, if our exporter wrote it; raises ExportError for another
    kind of file."""
    model = _read(path)
    for entry in model.metadata_props:
        if entry.key == _WEIGHTS_KEY:
            try:
                weights = json.loads(entry.value)
            except ValueError:
                return None
            return weights if _is_provenance(weights) else None
    return None


def _is_provenance(data: Any) -> bool:
    """Other tools may use that key for something of their own."""
    kinds = {"kind": str, "untrained": bool, "description": str}
    return isinstance(data, dict) and all(isinstance(data.get(k), t) for k, t in kinds.items())


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(str(path), load_external_data=False)
    except Exception as e:  # onnx raises protobuf's, its own and plain errors alike
        reason = str(e).strip() or type(e).__name__
        raise ExportError(f"{path}: is not a valid ONNX model", details=reason[:2000]) from e


def check(path: Path, spec: Spec, max_opset: Optional[int]) -> None:
    """Check the ONNX file with onnx's own checker and shape inference, then against the spec.

    Args:
        max_opset: the highest op set the engine reads, None where no limit is known.

    Raises:
        ExportError: it is invalid, or its inputs, outputs or op set are not as the spec says.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as e:  # as _read
        reason = str(e).strip() or type(e).__name__
        raise ExportError(f"{path}: is not a valid ONNX model", details=reason[:2000]) from e
    model = _read(path)
    opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if max_opset is not None and opset > max_opset:
        raise ExportError(
            f"{path}: uses opset {opset}, which the engine cannot read",
            expected=f"opset {max_opset} or lower",
            remedy=f"export it with opset: {max_opset}",
        )
    _compare(path, "input", _inputs(model.graph), spec.inputs)
    _compare(path, "output", list(model.graph.output), spec.outputs)


def _inputs(graph: onnx.GraphProto) -> List[Any]:
    """What is fed: some exporters list the weights among the inputs."""
    weights = {i.name for i in graph.initializer}
    return [i for i in graph.input if i.name not in weights]


def _compare(path: Path, side: str, found: List[Any], wanted: Any) -> None:
    wanted_lines = sorted(_wanted(t) for t in wanted)
    found_lines = sorted(_found(v) for v in found)
    if found_lines != wanted_lines:
        raise ExportError(
            f"{path}: its {side}s are {'; '.join(found_lines) or 'none'}",
            expected="; ".join(wanted_lines),
            remedy=f"make the spec's {side}s agree with the model's",
        )


def _wanted(tensor: Union[Input, Output]) -> str:
    dims = ", ".join("?" if d == -1 else str(d) for d in tensor.dims)
    return f"{tensor.name} {tensor.dtype.name} [batch, {dims}]"


def _found(value: Any) -> str:
    kind = value.type.tensor_type
    names = {d.onnx: d.name for d in DTYPES.values()}
    dtype = names.get(kind.elem_type, onnx.TensorProto.DataType.Name(kind.elem_type))
    if not kind.HasField("shape"):
        return f"{value.name} {dtype} of unknown shape"
    dims = [str(d.dim_value) if d.HasField("dim_value") else "?" for d in kind.shape.dim]
    if dims and dims[0] == "?":
        dims[0] = "batch"
    return f"{value.name} {dtype} [{', '.join(dims)}]"
