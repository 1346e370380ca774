"""ResNet50 and shorter ones as ONNX files without TensorFlow: the real layers, random weights.

Layers: He et al., "Deep Residual Learning for Image Recognition", table 1, batch norm folded into the
convolutions. For tests of speed; a test of the export takes Keras's.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from support.models import write_model

CLASSES = 1000
SIDE = 224


class _Graph:
    """Nodes and weights as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def add(self, kind: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """One node; the name of its output."""
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, *shape: int, scale: float) -> str:
        """Normal random numbers; their name."""
        name = f"w{len(self.weights)}"
        array = self._rng.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def convolution(
        self, x: str, size: int, inputs: int, outputs: int, stride: int = 1, gain: float = 1
    ) -> str:
        """With He's initialization, times ``gain``."""
        scale = gain * (2 / (size * size * inputs)) ** 0.5
        weight = self.weight(outputs, inputs, size, size, scale=scale)
        return self.add("Conv", x, weight, strides=[stride, stride], pads=[size // 2] * 4)

    def block(self, x: str, inputs: int, width: int, stride: int) -> str:
        """A bottleneck: 1x1, 3x3, 1x1 to four times the width, around a shortcut."""
        y = self.add("Relu", self.convolution(x, 1, inputs, width))
        y = self.add("Relu", self.convolution(y, 3, width, width, stride))
        y = self.convolution(y, 1, width, 4 * width, gain=0.2)  # so that sums do not grow with the depth
        if stride != 1 or inputs != 4 * width:
            x = self.convolution(x, 1, inputs, 4 * width, stride)
        return self.add("Relu", self.add("Add", x, y))


def write_resnet(folder: Path, *, name: str, blocks: Sequence[int] = (3, 4, 6, 3)) -> Path:
    """``probabilities`` FP32 [1000] of ``pixels`` UINT8 [224, 224, 3]; the spec's path.

    ``blocks`` of each stage: (3, 4, 6, 3) is ResNet50.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("".join(f"class {n}\n" for n in range(CLASSES)))
    g = _Graph()
    x = g.add("Transpose", g.add("Cast", "pixels", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    x = g.add("Mul", x, g.weight(1, scale=1 / 255))
    x = g.add("Relu", g.convolution(x, 7, 3, 64, 2))
    x = g.add("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, count in enumerate(blocks):
        for n in range(count):
            x = g.block(x, channels, 64 << stage, 2 if n == 0 and stage else 1)
            channels = 256 << stage
    x = g.add("Flatten", g.add("GlobalAveragePool", x))
    x = g.add("MatMul", x, g.weight(channels, CLASSES, scale=channels**-0.5))
    g.add("Softmax", x, output="probabilities", axis=-1)
    graph = helper.make_graph(
        g.nodes,
        name,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", CLASSES])],
        g.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pixels = np.random.default_rng(1).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8)
    probabilities = session.run(None, {"pixels": pixels})[0]
    spec = {
        "inputs": [{"name": "pixels", "dtype": "UINT8", "dims": [SIDE, SIDE, 3]}],
        "outputs": [{"name": "probabilities", "dtype": "FP32", "dims": [CLASSES], "labels": "classes.txt"}],
        "batch": {"max": 32},
        "precision": "fp32",
        "parity": {"max_abs": 1e-3},
    }
    return write_model(
        folder, name, graph, {"pixels": pixels}, {"probabilities": probabilities}, spec, "untrained"
    )
