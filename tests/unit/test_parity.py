"""The parity gate: what counts as agreement, and that disagreement stops the build with its figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.engine import Arrays, Built, Engine
from builder.errors import BuilderError, ParityError
from builder.release import parity
from builder.spec.model import Parity, Spec

MakeSpec = Callable[..., Spec]


class Doubler(Engine):
    """An engine in a few lines: y is twice the first three of x, then ``spoil`` has its way."""

    name, filename = "doubler", "model"

    def __init__(self, spoil: Callable[[np.ndarray], np.ndarray] = lambda y: y) -> None:
        self.batches: list[int] = []
        self.rows: list[float] = []
        self._spoil = spoil

    def build(self, spec: Spec, onnx: Path, engine: Path, work: Path) -> Built:
        raise AssertionError("never built here")

    def run(self, spec: Spec, engine: Path, inputs: Arrays, work: Path) -> Arrays:
        x = inputs["x"]
        self.batches.append(len(x))
        self.rows += x[:, 0].tolist()
        return {"y": self._spoil(x[:, :3] * 2)}


def run(spec: Spec, engine: Engine, count: int = 5) -> dict[str, Any]:
    x = np.arange(count * 4, dtype=np.float32).reshape(count, 4)
    return parity.verify(spec, engine, Path("engine"), {"x": x}, {"y": x[:, :3] * 2}, Path("work")).figures


def compare(make_spec: MakeSpec, wanted: list[Any], found: list[Any], dims: list[int] | None = None) -> Any:
    dims = dims or [len(wanted[0])]
    output = make_spec(outputs=[{"name": "y", "dtype": "FP32", "dims": dims}]).outputs[0]
    return parity.compare(output, np.array(wanted, np.float32), np.array(found, np.float32))


def test_equal_answers_agree_in_full(make_spec: MakeSpec) -> None:
    assert compare(make_spec, [[1, 2, 3]], [[1, 2, 3]]) == {"output": "y", "top1": 1.0, "max_abs": 0.0}


def test_another_first_class_is_a_disagreement(make_spec: MakeSpec) -> None:
    figures = compare(make_spec, [[0.1, 0.9], [0.9, 0.1]], [[0.1, 0.9], [0.1, 0.9]])
    assert figures["top1"] == 0.5
    assert figures["max_abs"] == pytest.approx(0.8)


def test_a_tie_in_the_source_may_be_broken_either_way(make_spec: MakeSpec) -> None:
    assert compare(make_spec, [[0.5, 0.5, 0.0]], [[0.499, 0.5, 0.0]])["top1"] == 1.0


def test_a_tie_is_only_a_tie_within_fp16_s_resolution(make_spec: MakeSpec) -> None:
    near, far = 1 - 2.0**-11, 1 - 2.0**-9
    assert compare(make_spec, [[1.0, near]], [[0.0, 1.0]])["top1"] == 1.0
    assert compare(make_spec, [[1.0, far]], [[0.0, 1.0]])["top1"] == 0.0


def test_negative_scores_are_compared_alike(make_spec: MakeSpec) -> None:
    assert compare(make_spec, [[-3, -1, -2]], [[-3, -1, -2]])["top1"] == 1.0
    assert compare(make_spec, [[-3, -1, -2]], [[-1, -3, -2]])["top1"] == 0.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_a_wrong_answer(make_spec: MakeSpec, bad: float) -> None:
    figures = compare(make_spec, [[1, 2], [1, 2]], [[bad, 2], [1, 2]])
    assert figures == {"output": "y", "top1": 0.5, "max_abs": np.inf}


def test_all_nan_is_a_wrong_answer(make_spec: MakeSpec) -> None:
    assert compare(make_spec, [[1, 2]], [[np.nan, np.nan]])["top1"] == 0.0


@pytest.mark.parametrize("dims", [[1], [2, 2]])
def test_what_is_no_list_of_scores_has_no_top1(make_spec: MakeSpec, dims: list[int]) -> None:
    value = np.ones((1, *dims)).tolist()
    assert compare(make_spec, value, value, dims)["top1"] is None


def test_a_difference_of_whole_numbers_does_not_wrap_round(make_spec: MakeSpec) -> None:
    output = make_spec(outputs=[{"name": "y", "dtype": "UINT8", "dims": [2]}]).outputs[0]
    figures = parity.compare(output, np.array([[0, 1]], np.uint8), np.array([[255, 1]], np.uint8))
    assert figures["max_abs"] == 255


def test_every_size_of_the_profile_is_run(make_spec: MakeSpec) -> None:
    engine = Doubler()
    run(make_spec(batch={"min": 1, "opt": 4, "max": 8}), engine)
    assert sorted(set(engine.batches)) == [1, 4, 8]


def test_every_golden_sample_is_run_however_small_the_batch(make_spec: MakeSpec) -> None:
    engine = Doubler()
    figures = run(make_spec(batch={"min": 1, "opt": 1, "max": 2}), engine, count=7)
    assert set(engine.rows) == {float(4 * n) for n in range(7)}
    assert figures["samples"] == 7


def test_one_wrong_sample_among_many_is_found_at_a_small_batch(make_spec: MakeSpec) -> None:
    def spoil(y: np.ndarray) -> np.ndarray:
        return np.where(y[:, :1] == 40, y + 1, y)  # the sample that begins with 20

    with pytest.raises(ParityError):
        run(make_spec(batch={"max": 1}), Doubler(spoil), count=16)


def test_the_figures_of_a_good_engine_are_given(make_spec: MakeSpec) -> None:
    figures = run(make_spec(), Doubler())
    assert (figures["top1"], figures["max_abs"]) == (1.0, 0.0)
    assert figures["tolerance"] == {"top1": 0.99, "max_abs": 0.05}
    assert {row["batch"] for row in figures["by_batch"]} == {1, 4, 8}


def test_a_deviation_above_the_tolerance_stops_with_the_figures(make_spec: MakeSpec) -> None:
    with pytest.raises(ParityError) as error:
        run(make_spec(parity={"max_abs": 0.5}), Doubler(lambda y: y + 0.75))
    message = str(error.value)
    assert "nothing is published" in message
    assert "max abs 0.75" in message
    assert "at most 0.5" in message
    assert "next: try precision: fp32" in message


def test_a_deviation_at_the_tolerance_passes(make_spec: MakeSpec) -> None:
    assert run(make_spec(parity={"max_abs": 0.5}), Doubler(lambda y: y + 0.5))["max_abs"] == 0.5


def test_top1_below_the_tolerance_stops_even_where_the_values_are_close(make_spec: MakeSpec) -> None:
    spec = make_spec(parity={"max_abs": 1e9, "top1": 1.0})
    with pytest.raises(ParityError, match="does not agree"):
        run(spec, Doubler(lambda y: y[:, ::-1]))


def test_nan_never_passes_even_the_widest_tolerance(make_spec: MakeSpec) -> None:
    spec = make_spec(parity={"max_abs": 1e9, "top1": 0})
    with pytest.raises(ParityError, match="does not agree"):
        run(spec, Doubler(lambda y: y * np.nan))


@pytest.mark.parametrize(
    "spoil", [lambda y: y[:1], lambda y: y[:, :1], lambda y: y[0]], ids=["rows", "dims", "rank"]
)
def test_an_answer_of_another_shape_is_refused_not_stretched(
    make_spec: MakeSpec, spoil: Callable[[np.ndarray], np.ndarray]
) -> None:
    constant = Doubler(lambda y: spoil(np.zeros_like(y)))
    x = np.zeros((5, 4), np.float32)
    with pytest.raises(BuilderError, match=r"\[8, 3\]|\[4, 3\]|\[1, 3\]"):
        parity.verify(make_spec(), constant, Path("e"), {"x": x}, {"y": x[:, :3]}, Path("w"))


def test_with_int8_an_engine_may_do_twice_what_quantizing_did() -> None:
    left_out = Parity(16, 0, None, None)
    assert left_out.tolerance() == {"top1": 0.99, "max_abs": 0.05}
    for kept, changed, top1, max_abs in (
        (1.0, 0.3, 0.9375, 0.6),
        (0.75, 0.01, 0.6875, 0.05),
        (None, 9.0, 0.99, 18.0),
        (0.0, 0.1, 0.0, 0.2),
        (1.0, np.inf, 0.9375, 0.05),
    ):
        found = left_out.with_int8(kept, changed, samples=16)
        assert found.tolerance() == {"top1": top1, "max_abs": max_abs}
    given = Parity(16, 0, 0.98, 0.02)
    assert given.with_int8(kept=0.5, changed=0.3, samples=16) == given
