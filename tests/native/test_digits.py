"""A trained Keras model goes the whole way, and what Triton answers is as good as Keras itself."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
import tritonclient.grpc
import tritonclient.http
import yaml
from onnx import numpy_helper
from support.digits import Digits
from support.stack import Stack


def scores(client: ModuleType, address: str, images: np.ndarray) -> np.ndarray:
    """All scores through a client that nobody here wrote, in batches of 32."""
    parts = []
    with client.InferenceServerClient(address) as connection:
        for start in range(0, len(images), 32):
            batch = images[start : start + 32]
            tensor = client.InferInput("pixels", list(batch.shape), "UINT8")
            tensor.set_data_from_numpy(batch)
            parts.append(connection.infer("digits", [tensor]).as_numpy("scores"))
    return np.concatenate(parts)


@pytest.mark.timeout(300)
def test_a_trained_model_keeps_its_accuracy(stack: Stack, digits: Digits) -> None:
    assert len(digits.images) == 360
    assert digits.keras_accuracy > 0.95
    stack.up(digits.spec)
    for client, port in ((tritonclient.http, stack.http), (tritonclient.grpc, stack.grpc)):
        served = scores(client, f"127.0.0.1:{port}", digits.images)
        assert float((served.argmax(1) == digits.labels).mean()) == digits.keras_accuracy
        np.testing.assert_allclose(served, digits.keras_scores, atol=1e-4)
    [release] = json.loads(stack.run("releases", "--json").stdout)
    assert release["proof"] == {"mutants": 9, "noticed": 9, "passed": []}
    weights = stack.status()["models"][0]["weights"]
    assert weights["untrained"] is False


@pytest.mark.timeout(300)
def test_its_accuracy_is_part_of_every_redeploy(stack: Stack, digits: Digits, tmp_path: Path) -> None:
    """A model that agrees with its source and is worse than what is live is refused, and nothing changes."""
    np.savez(tmp_path / "held-out.npz", inputs=digits.images, labels=digits.labels)
    for name in ("digits.keras", "samples.npy", "labels.txt"):
        shutil.copy(digits.spec.with_name(name), tmp_path)
    document = yaml.safe_load(digits.spec.read_text())
    document["evaluation"] = {"npz": "held-out.npz", "min": 0.9, "max_drop": 0.02}
    spec = tmp_path / "digits.yaml"
    spec.write_text(yaml.safe_dump(document))
    stack.up(spec)
    [row] = json.loads(stack.run("releases", "--json").stdout)
    found = row["evaluation"]
    assert found["after"]["accuracy"] == digits.keras_accuracy
    assert found["after"]["count"] == 360
    assert f"top1 {digits.keras_accuracy:.1%} of 360" in stack.run("releases").stdout

    # As after a training that went wrong: it prefers one class. It agrees with itself, so parity is perfect.
    model = onnx.load(str(stack.models_dir / "releases" / "digits" / "1" / "model.onnx"))
    [bias] = [i for i in model.graph.initializer if list(i.dims) == [10]]
    spoiled = numpy_helper.to_array(bias) + np.float32([0, 9, 0, 0, 0, 0, 0, 0, 0, 0])
    bias.CopyFrom(numpy_helper.from_array(spoiled, bias.name))
    onnx.save(model, str(tmp_path / "spoiled.onnx"))
    document["source"] = {"onnx": "spoiled.onnx"}
    document["inputs"][0].pop("preprocessing")  # it is in the graph
    document["evaluation"].pop("min")
    spec.write_text(yaml.safe_dump(document))
    done = stack.run("redeploy", "--model", spec)
    assert done.returncode == 1
    assert "accuracy is outside the spec's bounds; what is live stays live" in done.stderr
    assert re.search(r"drop against release 1, which is live: \+\d+\.\d\d points", done.stderr)
    assert stack.status()["models"][0]["live"] == 1
    answers = scores(tritonclient.grpc, f"127.0.0.1:{stack.grpc}", digits.images)
    assert float((answers.argmax(1) == digits.labels).mean()) == digits.keras_accuracy
