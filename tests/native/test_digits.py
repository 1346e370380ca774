"""A trained Keras model goes the whole way, and what Triton answers is as good as Keras itself."""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
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
