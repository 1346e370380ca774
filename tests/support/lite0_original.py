"""EfficientNet-Lite0 as its PyTorch code has it, as an ONNX graph: channels first, weights as they lie
in the state dict, padding written out. It shares nothing with the builder's own Keras network but figures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

# repeats, kernel, stride, expand, filters
STAGES = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
          (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]  # fmt: skip


class _Graph:
    def __init__(self, state: dict[str, np.ndarray]) -> None:
        self.state, self.nodes, self.used = state, [], set()
        self.size = 224

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def tensor(self, name: str) -> str:
        self.used.add(name)
        return name

    def conv(self, x: str, name: str, kernel: int, stride: int, group: int = 1) -> str:
        out = -(-self.size // stride)
        padding = max((out - 1) * stride + kernel - self.size, 0)  # TensorFlow's: the odd one at the end
        first, last = padding // 2, padding - padding // 2
        self.size = out
        return self.node(
            "Conv", [x, self.tensor(f"{name}.weight")],
            strides=[stride] * 2, pads=[first, first, last, last], group=group,
        )  # fmt: skip

    def norm(self, x: str, name: str, *, relu: bool = True) -> str:
        parts = [self.tensor(f"{name}.{p}") for p in ("weight", "bias", "running_mean", "running_var")]
        x = self.node("BatchNormalization", [x, *parts], epsilon=1e-3)
        return self.node("Clip", [x, "zero", "six"]) if relu else x


def model(state: dict[str, np.ndarray]) -> onnx.ModelProto:
    """From pixels FP32 [n, 3, 224, 224], preprocessed, to logits [n, 1000]."""
    g = _Graph(state)
    x = g.norm(g.conv("x", "_conv_stem", 3, 2), "_bn0")
    filters, number = 32, 0
    for repeats, kernel, first_stride, expand, out in STAGES:
        for turn in range(repeats):
            name, before, stride = f"_blocks.{number}", x, first_stride if turn == 0 else 1
            if expand != 1:
                x = g.norm(g.conv(x, f"{name}._expand_conv", 1, 1), f"{name}._bn0")
            x = g.norm(
                g.conv(x, f"{name}._depthwise_conv", kernel, stride, group=filters * expand), f"{name}._bn1"
            )
            x = g.norm(g.conv(x, f"{name}._project_conv", 1, 1), f"{name}._bn2", relu=False)
            if stride == 1 and filters == out:
                x = g.node("Add", [x, before])
            filters, number = out, number + 1
    x = g.norm(g.conv(x, "_conv_head", 1, 1), "_bn1")
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x])])
    x = g.node("Gemm", [x, g.tensor("_fc.weight"), g.tensor("_fc.bias")], transB=1)
    assert {n for n in state if not n.endswith("num_batches_tracked")} == g.used
    weights = [numpy_helper.from_array(state[n], n) for n in sorted(g.used)]
    weights += [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in (("zero", 0.0), ("six", 6.0))]
    graph = helper.make_graph(
        g.nodes,
        "original",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 224, 224])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", 1000])],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(made, full_check=True)
    return made


def probabilities(state: dict[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """Of UINT8 pixels [n, 224, 224, 3]: FP32 [n, 1000]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model(state).SerializeToString())
    ready = ((pixels.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)
    logits = session.run(None, {"x": np.ascontiguousarray(ready)})[0].astype(np.float64)
    spread = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: np.ndarray = spread / spread.sum(axis=1, keepdims=True)
    return shares
