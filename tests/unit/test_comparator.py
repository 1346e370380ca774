"""What is served is held to what was verified: rounding passes, anything more does not."""

from __future__ import annotations

import numpy as np
import pytest

from models_volume.comparator import Allowance, wrong

RNG = np.random.default_rng(0)
SCORES = RNG.dirichlet(np.ones(10), 16).astype(np.float32)
OWN = SCORES + np.float32(0.02) * RNG.standard_normal(SCORES.shape).astype(np.float32)  # an FP16 engine's


def allowed(parity: float = 1e-6, spread: float = 0.0, verified: np.ndarray = SCORES) -> Allowance:
    return Allowance.measured(verified, parity, spread)


def test_equal_answers_are_right() -> None:
    assert wrong("y", SCORES, SCORES, SCORES, allowed()) == ""


def test_sums_in_another_order_are_right() -> None:
    again = (SCORES.astype(np.float64) * (1 + 1e-6)).astype(np.float32)
    assert wrong("y", again, SCORES, SCORES, allowed()) == ""


@pytest.mark.parametrize("by", [1e-4, 1e-3, 0.04])
def test_a_difference_that_is_more_than_rounding_is_wrong_however_much_the_spec_allows(by: float) -> None:
    found = SCORES.copy()
    found[3, 4] += by
    assert "differs from the golden one" in wrong("y", found, SCORES, SCORES, allowed())
    assert "(row 3)" in wrong("y", found, SCORES, SCORES, allowed())


def test_answers_rounded_to_fp16_are_wrong_where_an_fp32_engine_was_verified() -> None:
    found = SCORES.astype(np.float16).astype(np.float32)
    assert wrong("y", found, SCORES, SCORES, allowed())


def test_the_precision_s_own_error_is_no_room_for_another_answer() -> None:
    """An engine 0.06 from its source is allowed rounding, not 0.06 again."""
    parity = float(np.abs(OWN - SCORES).max())
    allowance = allowed(parity, 0.0, OWN)
    assert wrong("y", OWN, SCORES, OWN, allowance) == ""
    assert parity > 0.04
    assert "what was verified at build" in wrong("y", SCORES, SCORES, OWN, allowance)


def test_what_differed_between_batches_at_build_may_differ_again() -> None:
    found = OWN + np.float32(0.009)
    assert wrong("y", found, SCORES, OWN, allowed(0.06, 0.0, OWN))
    assert wrong("y", found, SCORES, OWN, allowed(0.06, 0.003, OWN)) == ""


def test_another_first_class_is_wrong_where_scores_are_closer_than_rounding_is_coarse() -> None:
    own = np.array([[0.500, 0.484, 0.016]], np.float32)
    found = np.array([[0.492, 0.493, 0.015]], np.float32)
    allowance = Allowance(golden=0.05, verified=0.01)
    assert "another first class" in wrong("y", found, own, own, allowance)
    near = np.array([[0.500, 0.495, 0.005]], np.float32)
    assert wrong("y", near[:, [1, 0, 2]], near, near, allowance) == "", "a tie within rounding"


def test_whole_numbers_must_be_equal() -> None:
    best = SCORES.argmax(axis=1).astype(np.int32)[:, None]
    allowance = allowed(parity=0.0, verified=best)
    assert wrong("best", best, best, best, allowance) == ""
    found = best.copy()
    found[-1] = (found[-1] + 1) % 10
    assert wrong("best", found, best, best, allowance)


def test_one_unit_of_an_fp16_output_is_rounding() -> None:
    own = SCORES.astype(np.float16)
    again = np.nextafter(own, np.float16(2))
    assert wrong("y", again, own, own, allowed(0.0, 0.0, own)) == ""


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_wrong(bad: float) -> None:
    found = SCORES.copy()
    found[0, 0] = bad
    assert "not finite" in wrong("y", found, SCORES, SCORES, Allowance(np.inf))


@pytest.mark.parametrize(
    "found", [SCORES[:1], SCORES[:, :1], SCORES.astype(np.float64)], ids=["n", "dims", "type"]
)
def test_an_answer_of_another_shape_or_type_is_wrong_not_stretched(found: np.ndarray) -> None:
    assert "output y is" in wrong("y", found, SCORES, SCORES, allowed())


def test_an_older_release_is_held_to_its_spec() -> None:
    old = Allowance.of({}, ceiling=0.05)
    assert wrong("y", SCORES + np.float32(0.04), SCORES, None, old) == ""
    assert "allowed 0.05" in wrong("y", SCORES + np.float32(0.06), SCORES, None, old)


def test_an_allowance_is_read_as_it_was_written() -> None:
    assert Allowance.of(allowed(0.01, 0.002).as_json(), ceiling=9) == allowed(0.01, 0.002)
