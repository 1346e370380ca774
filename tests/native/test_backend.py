"""The CPU server's backend: joined requests are answered each, and a bad one spoils nobody's."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from support.models import write_lookup, write_scale
from support.stack import Stack
from tritonclient.utils import InferenceServerException


def ask(stack: Stack, model: str, name: str, array: np.ndarray, kind: str, output: str) -> np.ndarray:
    with triton.InferenceServerClient(f"127.0.0.1:{stack.grpc}") as client:
        tensor = triton.InferInput(name, list(array.shape), kind)
        tensor.set_data_from_numpy(array)
        return client.infer(model, [tensor]).as_numpy(output)


def test_a_bad_request_in_a_batch_spoils_only_itself(stack: Stack, tmp_path: Path) -> None:
    stack.up(write_lookup(tmp_path / "spec"))
    answers: dict[int, object] = {}

    def one(index: int) -> None:
        try:
            answers[index] = float(
                ask(stack, "lookup", "index", np.array([[index]], np.int32), "INT32", "value")[0, 0]
            )
        except InferenceServerException as e:
            answers[index] = e.message()

    before = executions(stack)
    threads = [threading.Thread(target=one, args=(i,)) for i in (0, 1, 2, 99, 3, 4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert {i: answers[i] for i in (0, 1, 2, 3, 4)} == {0: 0.0, 1: 10.0, 2: 20.0, 3: 30.0, 4: 40.0}
    assert "onnxruntime" in str(answers[99])
    assert executions(stack) - before < len(threads), "the requests were meant to meet in one batch"


def executions(stack: Stack) -> int:
    with triton.InferenceServerClient(f"127.0.0.1:{stack.grpc}") as client:
        return int(client.get_inference_statistics("lookup").model_stats[0].execution_count)


def test_joined_requests_of_different_sizes_each_get_their_own_rows(stack: Stack, tmp_path: Path) -> None:
    delay = {"dynamic_batching": {"max_queue_delay_us": 200000}}
    stack.up(write_scale(tmp_path / "spec", dtype="FP16", dims=(4, 3), serving=delay))
    sizes = [1, 3, 2, 1]
    inputs = [
        np.random.default_rng(n).uniform(0, 10, (s, 4, 3)).astype(np.float16) for n, s in enumerate(sizes)
    ]
    answers: list[np.ndarray | None] = [None] * len(inputs)

    def one(n: int) -> None:
        answers[n] = ask(stack, "scale", "x", inputs[n], "FP16", "scores")

    threads = [threading.Thread(target=one, args=(n,)) for n in range(len(inputs))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for given, got in zip(inputs, answers, strict=True):
        np.testing.assert_allclose(got, given.astype(np.float32) * 2)
