"""An exported graph made ready for quantization: batch norms folded, constants computed, every node named.

onnxruntime's basic optimizations do it; they write standard ONNX operators only. Padding goes into the
convolution or pooling behind it on the way, which TensorRT would run as a kernel of its own otherwise.
A global pooling becomes one that says its size: TensorRT makes a reduction of the former, and refuses to
build an engine where INT8 meets it (8.5.1).
"""

from __future__ import annotations

from pathlib import Path

import onnx

from builder.errors import QuantizationError
from builder.quantize import answers
from builder.quantize.answers import Arrays

# Folding rounds: the graph's own answers move in the last bits of a float32 and no more than that.
_LEAST_DB = 60.0


def prepare(source: Path, work: Path, sample: Arrays) -> onnx.ModelProto:
    """The graph of ``source``, optimized; the source's own where that changes its answers.

    Args:
        work: a folder of ours: onnxruntime leaves files beside those it reads.
        sample: an input batch on which the two are compared.

    Raises:
        QuantizationError: onnxruntime cannot load the model, or it computes in FP16 or INT8 already.
    """
    model = onnx.load(str(source))
    _check_types(model)
    file = work / "prepared.onnx"
    answers.optimize(source, file)
    ready = onnx.load(str(file))
    if not _same(answers.run(source, sample), answers.run(file, sample)):
        ready = model
    ready.ir_version = model.ir_version  # TensorRT 8.5 reads older ones only
    used = {node.domain for node in ready.graph.node}
    kept = [entry for entry in ready.opset_import if entry.domain in used]
    del ready.opset_import[:]
    ready.opset_import.extend(kept)
    _name(ready)
    _kernel_shapes(ready)
    _sized_pools(ready)
    return ready


def _check_types(model: onnx.ModelProto) -> None:
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node):
        raise QuantizationError(
            "the model is quantized already: it has Q/DQ",
            expected="a model in FP32",
            remedy="to serve it as it is: precision: fp16, trtexec_args: [--int8], and no calibration",
        )
    half = sorted(w.name for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT16)
    if half:
        raise QuantizationError(
            f"the model has FP16 weights ({half[0]} and {len(half) - 1} more)",
            expected="FP32 weights, which are what INT8 is made of; TensorRT makes FP16 of the rest",
            remedy="export the model in FP32, or use precision: fp16",
        )


def _same(one: Arrays, other: Arrays) -> bool:
    return all(answers.sqnr_db(one[name], other[name]) >= _LEAST_DB for name in one)


def _name(model: onnx.ModelProto) -> None:
    """A name of its own for every node: layers are told by it, in the report and in the search."""
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{number}"
        node.name = name if name not in taken else f"{name}_{number}"
        taken.add(node.name)


def _kernel_shapes(model: onnx.ModelProto) -> None:
    """Say how large each kernel is: ONNX takes that from the weights, and TensorRT 8.5's parser cannot once
    they come out of a Q/DQ pair."""
    weights = {w.name: w for w in model.graph.initializer}
    for node in model.graph.node:
        said = any(a.name == "kernel_shape" for a in node.attribute)
        if node.op_type in ("Conv", "ConvTranspose") and not said and node.input[1] in weights:
            node.attribute.append(onnx.helper.make_attribute("kernel_shape", weights[node.input[1]].dims[2:]))


def _sized_pools(model: onnx.ModelProto) -> None:
    """GlobalAveragePool as the AveragePool over all that there is, where the graph says how much that is."""
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred}
    for node in model.graph.node:
        size = shapes.get(node.input[0], [])[2:] if node.op_type == "GlobalAveragePool" else []
        if len(size) == 2 and all(size):  # 0 is a dimension that is free
            node.op_type = "AveragePool"
            node.attribute.append(onnx.helper.make_attribute("kernel_shape", size))
