"""Accuracy, its intervals and the paired difference, against published figures and definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.evaluation import metrics
from builder.evaluation.metrics import Drop, Share


# Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3.
@pytest.mark.parametrize(
    ("good", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_s_interval_is_the_published_one(good: int, count: int, low: float, high: float) -> None:
    assert metrics.wilson(good, count) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_s_interval_holds_the_share_and_mirrors(counts: tuple[int, int]) -> None:
    good, count = counts
    low, high = metrics.wilson(good, count)
    assert 0 <= low <= good / count <= high <= 1
    assert metrics.wilson(count - good, count) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def likely(lost: int, gained: int, count: int, drop: float) -> float:
    """The most likely share of gained samples if the true drop were this, found by trying."""
    low, high = max(0.0, -drop), (1 - drop) / 2
    shares = np.linspace(low, high, 200_001)[1:-1]
    with np.errstate(divide="ignore"):
        logs = (
            lost * np.log(shares + drop)
            + gained * np.log(shares)
            + (count - lost - gained) * np.log(1 - 2 * shares - drop)
        )
    return float(shares[np.nanargmax(logs)])


@pytest.mark.parametrize(("lost", "gained", "count"), [(12, 2, 50), (5, 5, 40), (30, 1, 400), (3, 0, 100)])
def test_tango_s_interval_ends_where_a_score_test_rejects(lost: int, gained: int, count: int) -> None:
    for end, sign in zip(metrics.tango(lost, gained, count), (1, -1)):
        share = likely(lost, gained, count, end)
        variance = count * (2 * share + end - end * end)
        assert (lost - gained - count * end) / math.sqrt(variance) == pytest.approx(sign * 1.96, abs=0.01)


def test_tango_s_interval_is_the_published_one() -> None:
    """Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014) 2850-2875, on Bentur's data of 2009."""
    assert metrics.tango(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("count", [54, 360, 10_000])
def test_no_disagreement_still_leaves_a_drop_possible(count: int) -> None:
    z2 = 1.959964**2
    assert metrics.tango(0, 0, count) == pytest.approx((-z2 / (count + z2), z2 / (count + z2)), rel=1e-6)


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 400))
def test_tango_s_interval_holds_the_difference_and_mirrors(lost: int, gained: int, same: int) -> None:
    count = lost + gained + same
    if count == 0:
        return
    low, high = metrics.tango(lost, gained, count)
    assert -1 <= low <= (lost - gained) / count <= high <= 1
    assert metrics.tango(gained, lost, count) == pytest.approx((-high, -low), abs=1e-9)


def test_mcnemar_is_the_binomial_test_of_the_changes() -> None:
    assert metrics.mcnemar(0, 0) == 1.0
    assert metrics.mcnemar(12, 2) == pytest.approx(2 * (1 + 14 + 91) / 2**14)
    assert metrics.mcnemar(2, 12) == metrics.mcnemar(12, 2)
    assert metrics.mcnemar(3000, 2900) == pytest.approx(0.197, abs=0.001)  # beyond a double's exponent


def test_what_counts_as_right() -> None:
    scores = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [np.nan, 0.9, 0.1]], np.float16)
    assert metrics.right(scores, np.array([1, 0, 1, 1]), "top1").tolist() == [True, True, False, False]
    many = np.arange(10.0)[None].repeat(2, axis=0)
    assert metrics.right(many, np.array([5, 4]), "top5").tolist() == [True, False]
    assert metrics.right(np.array([[3, 7]], np.int32), np.array([1]), "top1").tolist() == [True]


def test_the_figures_of_two_runs() -> None:
    before = np.array([True] * 90 + [False] * 10)
    after = np.array([True] * 84 + [False] * 6 + [True] * 2 + [False] * 8)
    assert Share.of(before).value == 0.9
    drop = Drop.of(before, after)
    assert (drop.lost, drop.gained, drop.value) == (6, 2, 0.04)
    assert -0.05 < drop.low < 0 < drop.value < drop.high < 0.11
    assert str(Share.of(before)) == "90.00% (90 of 100; 95% interval 82.56% to 94.48%)"


def test_how_many_samples_would_decide() -> None:
    count = metrics.enough_for_drop(0, 0, 0.01)
    assert 381 <= count <= 385
    assert metrics.tango(0, 0, count)[1] <= 0.01 < metrics.tango(0, 0, 375)[1]
    count = metrics.enough_for_share(0.97, 0.95)
    assert metrics.wilson(round(0.97 * count), count)[0] >= 0.95
    assert metrics.enough_for_share(0.5, 0.5) == 0
