"""Trained models in INT8: one that keeps its accuracy, served, and one that INT8 hurts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.grpc
import tritonclient.http
import yaml
from PIL import Image
from support import lite0_original, photographs
from support.digits import Digits
from support.stack import Stack

from builder.errors import BuilderError, QuantizationError
from builder.export import packages, state_dict
from builder.release import build
from builder.release.store import Store
from builder.spec import loader
from models_volume.layout import Volume


def scores(address: str, client: object, images: np.ndarray) -> np.ndarray:
    """All scores, in batches of 32."""
    parts = []
    with client.InferenceServerClient(address) as connection:  # type: ignore[attr-defined]
        for start in range(0, len(images), 32):
            batch = images[start : start + 32]
            tensor = client.InferInput("pixels", list(batch.shape), "UINT8")  # type: ignore[attr-defined]
            tensor.set_data_from_numpy(batch)
            parts.append(connection.infer("digits", [tensor]).as_numpy("scores"))
    return np.concatenate(parts)


@pytest.mark.timeout(300)
def test_digits_in_int8_lose_at_most_half_a_point(stack: Stack, digits: Digits) -> None:
    folder = digits.spec.parent
    with np.load(folder / "data.npz") as data:
        np.save(folder / "train.npy", data["train_x"])
    np.savez(folder / "held-out.npz", inputs=digits.images, labels=digits.labels)
    document = yaml.safe_load(digits.spec.read_text())
    document |= {
        "precision": "int8_fp16",
        "calibration": {"file": "train.npy"},
        "evaluation": {"npz": "held-out.npz", "max_drop": 0.02},
    }
    spec = digits.spec.with_name("digits_int8.yaml")
    spec.write_text(yaml.safe_dump(document, sort_keys=False))
    stack.up(spec)

    release = Volume(stack.models_dir).release("digits", 1)
    quantized = release / "model.onnx"
    pairs = [n for n in onnx.load(str(quantized)).graph.node if n.op_type == "QuantizeLinear"]
    assert len(pairs) >= 4, "two convolutions, data and weights"
    session = onnxruntime.InferenceSession(str(quantized), providers=["CPUExecutionProvider"])
    (local,) = session.run(["scores"], {"pixels": digits.images})
    assert np.abs(local - digits.keras_scores).max() > 1e-4, "it is not FP32"
    for client, port in ((tritonclient.http, stack.http), (tritonclient.grpc, stack.grpc)):
        served = scores(f"127.0.0.1:{port}", client, digits.images)
        np.testing.assert_allclose(served, local, atol=1e-5)
        accuracy = float((served.argmax(1) == digits.labels).mean())
        assert len(digits.labels) == 360
        assert accuracy >= digits.keras_accuracy - 0.005
    told = json.loads((release / "quantization.json").read_text("utf-8"))
    assert told["passed"] is True
    assert told["held_out"] == {"samples": 360, "from": "evaluation"}


def crops(folder: Path, each: int) -> np.ndarray:
    """Seeded crops of every picture, as EfficientNet-Lite0 takes them: FP32 [n, 3, 224, 224]."""
    rng = np.random.default_rng(0)
    found = []
    for file in sorted(folder.iterdir()):
        with Image.open(file) as opened:
            image = opened.convert("RGB")
        for _ in range(each):
            side = int(min(image.size) * rng.uniform(0.45, 1.0))
            left, top = rng.integers(image.width - side + 1), rng.integers(image.height - side + 1)
            crop = image.crop((left, top, left + side, top + side)).resize((224, 224))
            found.append((np.asarray(crop, np.float32) - 127) / 128)
    return np.ascontiguousarray(np.stack(found).transpose(0, 3, 1, 2))


@pytest.mark.timeout(400)
def test_efficientnet_lite0_is_refused_or_has_its_sensitive_layers_left_out(tmp_path: Path) -> None:
    """Everything in INT8 it agrees with itself on little more than half of all pictures."""
    weights = loader.load(loader.find("efficientnet_lite0")).source.weights
    assert weights is not None
    assert weights.package is not None
    (tmp_path / "state").mkdir()
    try:
        file = packages.weights_file(weights.package, tmp_path / "cache", tmp_path / "state")
    except BuilderError as e:
        pytest.skip(str(e))
    model = lite0_original.model(state_dict.read(file))
    onnx.save(model, str(tmp_path / "lite0.onnx"))
    np.save(tmp_path / "crops.npy", crops(photographs.fetch(tmp_path), 6))
    document = {
        "name": "lite0",
        "source": {"onnx": "lite0.onnx"},
        "inputs": [{"name": "x", "dtype": "FP32", "dims": [3, 224, 224], "samples": {"file": "crops.npy"}}],
        "outputs": [{"name": model.graph.output[0].name, "dtype": "FP32", "dims": [1000]}],
        "batch": {"max": 8},
        "parity": {"max_abs": 1.0},
        "precision": "int8_fp16",
        "calibration": {"file": "crops.npy", "samples": 64, "method": "entropy"},
        "int8": {"max_left_out": 0.4, "samples": 100},
    }
    (tmp_path / "lite0.yaml").write_text(yaml.safe_dump(document))
    store = Store(tmp_path / "models")
    try:
        build.build(tmp_path / "lite0.yaml", store, "onnxruntime", allow_untrained=False, force=False)
        report = store.folder("lite0", 1) / "quantization.json"
    except QuantizationError as e:
        report = store.volume.logs / "lite0.quantization.json"
        refusal = str(e)
    told = json.loads(report.read_text("utf-8"))
    search, layers = told["search"], told["layers"]
    assert search["plain"]["agreement"] < 0.9, "all in INT8: refused"
    assert search["chosen"]["agreement"] > search["plain"]["agreement"] + 0.1
    assert len(layers) == 49
    assert 0 < sum(layer["left_out"] for layer in layers) <= 20
    assert told["passed"] is (store.versions("lite0") == [1])
    if not told["passed"]:
        assert f"layer {layers[0]['name']} (" in refusal
