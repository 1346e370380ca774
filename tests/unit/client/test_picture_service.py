"""The picture service's own parts: screening, metrics, how an answer is described."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from PIL import Image
from support import hostile_pictures
from support.hostile_pictures import encoded
from triton_stack_client.classify.task import Task
from triton_stack_client.contract import Contract, Tensor
from triton_stack_client.pictures import screening
from triton_stack_client.pictures.errors import RefusalError
from triton_stack_client.pictures.metrics import Metrics
from triton_stack_client.pictures.service import described
from triton_stack_client.pictures.work import Answer

PIXELS = Tensor("pixels", "UINT8", (4, 4, 3))
SCORES = Tensor("scores", "FP32", (3,))


def task(*, untrained: bool = False, labels: tuple[str, ...] = ("red", "green", "blue")) -> Task:
    contract = Contract("colours", 7, (PIXELS,), (SCORES,), 8, "")
    return Task(contract, PIXELS, SCORES, 1, None, labels, "UNTRAINED, seed 0", untrained)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_ordinary_pictures_of_every_size_up_to_the_limit_pass(form: str, mode: str) -> None:
    if (form, mode) == ("JPEG", "RGBA"):
        mode = "CMYK"
    for lossless in (True, False):
        picture = encoded(Image.new(mode, (50, 40)), form, lossless=lossless, progressive=lossless)
        screening.screen(picture, 50 * 40)
        if form != "JPEG":  # whose size its decoder reads
            with pytest.raises(RefusalError, match=r"50 x 40 pixels; allowed: 0\.0019"):
                screening.screen(picture, 1900)


def test_a_refusal_says_what_was_found_what_is_allowed_and_what_next() -> None:
    gif = encoded(Image.new("L", (8, 8)), "GIF")
    with pytest.raises(RefusalError) as refused:
        screening.screen(gif, 10**6)
    words = "the body is a GIF; allowed: a JPEG, PNG and WebP file; next: send the file as it is: curl "
    assert str(refused.value) == words + "--data-binary @FILE"


def test_no_cut_or_changed_picture_ends_otherwise_than_with_a_refusal() -> None:
    rng = np.random.default_rng(4)
    for content, _ in hostile_pictures.corpus().values():
        for _ in range(20):
            changed = bytearray(content[: int(rng.integers(0, 200))])
            for _ in range(int(rng.integers(0, 4)) if changed else 0):
                changed[int(rng.integers(0, len(changed)))] = int(rng.integers(0, 256))
            with contextlib.suppress(RefusalError):  # anything else fails the test
                screening.screen(bytes(changed), 50_000_000)


def test_untrained_weights_are_named_beside_the_labels() -> None:
    one = task(untrained=True)
    answer = described(Answer(one, one.best(np.float32([0.25, 0.5, 0.25]), 2)))
    assert answer == {
        "model": "colours",
        "version": 7,
        "predictions": [
            {"label": "green", "class": 1, "score": 0.5},
            {"label": "red", "class": 0, "score": 0.25},
        ],
        "warning": "the labels mean nothing: the weights are UNTRAINED, seed 0",
    }


def test_a_score_that_is_no_number_is_null_and_a_class_without_a_name_has_its_number() -> None:
    one = task(labels=())
    answer = described(Answer(one, one.best(np.float32([0.5, np.nan, np.inf]), 3)))
    assert "warning" not in answer
    assert {p["label"]: p["score"] for p in answer["predictions"]} == {
        "class 2": None,
        "class 0": 0.5,
        "class 1": None,
    }


def test_metrics_are_cumulative_histograms_and_counters() -> None:
    metrics = Metrics()
    metrics.request("colours", 200)
    metrics.request("colours", 200)
    metrics.request("", 404)
    for seconds in (0.0005, 0.001, 0.02, 99.0):
        metrics.time("infer", seconds)
    text = metrics.text()
    assert 'triton_stack_pictures_requests_total{model="colours",status="200"} 2\n' in text
    assert 'triton_stack_pictures_requests_total{model="",status="404"} 1\n' in text
    buckets = [line for line in text.splitlines() if line.startswith("triton_stack_pictures_infer_seconds_b")]
    values = {line.split('"')[1]: int(line.split()[-1]) for line in buckets}
    bounds = ("0.001", "0.01", "0.025", "30.0", "+Inf")
    assert [values[bound] for bound in bounds] == [2, 2, 3, 3, 4]
    assert "triton_stack_pictures_infer_seconds_sum 99.021500\n" in text
    assert "triton_stack_pictures_infer_seconds_count 4\n" in text
