"""A real classifier of scikit-learn's digits as an ONNX file, made without TensorFlow in a second.

Convolutions with seeded filters, a batch norm and a residual Add, under a trained layer. UINT8 pixels go in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import yaml
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

CHANNELS = 16
FRAGILE = "conv3"  # the layer that a fragile network has INT8 hurt


@dataclass(frozen=True)
class ConvNet:
    """Its spec; 360 images UINT8 [360, 8, 8, 1] with labels that it was not trained on."""

    spec: Path
    images: np.ndarray
    labels: np.ndarray


def graph(weights: dict[str, np.ndarray], *, features: bool = False) -> onnx.ModelProto:
    """The network; with ``features`` without its last layer."""
    node = helper.make_node
    pads = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Cast", ["pixels"], ["float"], "cast", to=TensorProto.FLOAT),
        node("Mul", ["float", "scale"], ["unit"], "unit"),
        node("Transpose", ["unit"], ["image"], "transpose", perm=[0, 3, 1, 2]),
        node("Conv", ["image", "w1"], ["c1"], "conv1", **pads),
        node("BatchNormalization", ["c1", "gamma", "beta", "mean", "var"], ["n1"], "norm1"),
        node("Relu", ["n1"], ["r1"], "relu1"),
        node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", **pads),
        node("Relu", ["c2"], ["r2"], "relu2"),
        node("Conv", ["r2", "w3", "b3"], ["c3"], "conv3", **pads),
        node("Add", ["c3", "r1"], ["a3"], "add3"),
        node("Relu", ["a3"], ["r3"], "relu3"),
        node("MaxPool", ["r3"], ["p3"], "pool3", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p3"], ["flat"], "flatten"),
    ]
    last = "flat"
    if not features:
        nodes += [node("Gemm", ["flat", "w4", "b4"], ["g4"], "dense4", transB=1),
                  node("Softmax", ["g4"], ["scores"], "softmax")]  # fmt: skip
        last = "scores"
    dims = [10] if not features else [CHANNELS * 16]
    made = helper.make_graph(
        nodes,
        "conv_net",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["N", 8, 8, 1])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["N", *dims])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in weights.items()
         if not (features and n in ("w4", "b4"))],
    )  # fmt: skip
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def filters(*, fragile: bool = False) -> dict[str, np.ndarray]:
    """Seeded weights of all but the last layer.

    ``fragile`` makes one channel between conv2 and conv3 a thousand times larger, and conv3's weights for it
    a thousand times smaller: FP32 computes the same, and one INT8 scale for all channels leaves the others
    nothing.
    """
    rng = np.random.default_rng(5)
    c = CHANNELS

    def he(*shape: int) -> np.ndarray:
        return rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)

    weights = {
        "scale": np.array(1 / 255), "w1": he(c, 1, 3, 3), "gamma": rng.uniform(0.5, 1.5, c),
        "beta": rng.normal(0, 0.1, c), "mean": rng.normal(0, 0.1, c), "var": rng.uniform(0.5, 1.5, c),
        "w2": he(c, c, 3, 3), "b2": rng.normal(0, 0.1, c), "w3": he(c, c, 3, 3), "b3": rng.normal(0, 0.1, c),
    }  # fmt: skip
    if fragile:
        weights["w2"][0] *= 1000
        weights["b2"][0] *= 1000
        weights["w3"][:, 0] /= 1000
    return weights


def write(folder: Path, *, fragile: bool = False, **spec_keys: object) -> ConvNet:
    """Train it and write it with its spec, 1,437 images to calibrate on and the others to evaluate on."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)[..., None]
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=0.2, random_state=0, stratify=digits.target
    )
    weights = filters(fragile=fragile)
    session = onnxruntime.InferenceSession(
        graph(weights, features=True).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (features,) = session.run(None, {"pixels": train_x})
    spread = features.std(axis=0) + 1e-6  # also where one channel is a thousand times larger
    fitted = LogisticRegression(tol=1e-2).fit(features / spread, train_y)
    weights |= {"w4": fitted.coef_ / spread, "b4": fitted.intercept_}
    onnx.save(graph(weights), str(folder / "net.onnx"))
    np.save(folder / "train.npy", train_x)
    np.save(folder / "samples.npy", train_x[:32])
    np.savez(folder / "test.npz", inputs=test_x, labels=test_y)
    spec = {
        "name": "net",
        "source": {"onnx": "net.onnx"},
        "inputs": [
            {"name": "pixels", "dtype": "UINT8", "dims": [8, 8, 1], "samples": {"file": "samples.npy"}}
        ],
        "outputs": [{"name": "scores", "dtype": "FP32", "dims": [10]}],
        "batch": {"max": 32},
        "precision": "int8_fp16",
        "calibration": {"file": "train.npy"},
        "evaluation": {"npz": "test.npz", "max_drop": 0.02},
        **spec_keys,
    }
    file = folder / "net.yaml"
    file.write_text(yaml.safe_dump(spec, sort_keys=False))
    return ConvNet(file, test_x, test_y)
