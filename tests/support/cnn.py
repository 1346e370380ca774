"""A small convolutional network with seeded weights, as an ONNX file with its spec: no TensorFlow needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from support.models import write_model


def write_cnn(
    folder: Path, *, name: str = "cnn", side: int = 24, channels: int = 12, **spec_keys: object
) -> Path:
    """``pixels`` UINT8 [N, side, side, 3] to ``scores`` FP32 [N, 10]: three convolutions, pooled; the spec.

    ``spec_keys`` go into the spec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    widths = [3, channels, 2 * channels, 2 * channels]
    tensors, nodes = [], [
        helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["x0"], perm=[0, 3, 1, 2]),
    ]  # fmt: skip
    tensors.append(numpy_helper.from_array(np.float32(1 / 255), "scale"))
    for n in range(3):
        kernel = rng.normal(0, (2 / (9 * widths[n])) ** 0.5, (widths[n + 1], widths[n], 3, 3))
        tensors.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{n}"))
        stride = [1, 1] if n == 0 else [2, 2]
        nodes.append(
            helper.make_node("Conv", [f"x{n}", f"w{n}"], [f"c{n}"], pads=[1, 1, 1, 1], strides=stride)
        )
        nodes.append(helper.make_node("Relu", [f"c{n}"], [f"x{n + 1}"]))
    head = rng.normal(0, 1.0, (widths[-1], 10)).astype(np.float32)
    tensors.append(numpy_helper.from_array(head, "head"))
    nodes += [
        helper.make_node("GlobalAveragePool", ["x3"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", side, side, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 10])],
        tensors,
    )
    spec = {
        "inputs": [{"name": "pixels", "dtype": "UINT8", "dims": [side, side, 3]}],
        "outputs": [{"name": "scores", "dtype": "FP32", "dims": [10]}],
        "batch": {"max": 8},
        "precision": "fp32",
        "parity": {"max_abs": 1e-3},
        **spec_keys,
    }
    path = write_model(folder, name, graph, {}, {}, spec, "")
    # Golden samples of pictures that differ: the network's own answers to them.
    pictures = rng.integers(0, 256, (8, 1, 1, 3)) + rng.integers(-40, 40, (8, side, side, 3))
    pixels = pictures.clip(0, 255).astype(np.uint8)
    session = onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    [scores] = session.run(["scores"], {"pixels": pixels})
    np.savez(folder / f"{name}.npz", **{"input.pixels": pixels, "output.scores": scores})
    return path
