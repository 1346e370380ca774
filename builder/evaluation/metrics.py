"""Accuracy with its uncertainty: how many answers are right, and how sure that makes us of a bound.

Two intervals, both at 95 %: Wilson's of a share, and Tango's score interval of the difference between two
shares of the same samples (Statistics in Medicine 17, 1998), which holds for few disagreements and for none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict

import numpy as np

CONFIDENCE = 0.95
_Z = 1.959963984540054  # the standard normal's 97.5 % point: 95 % lie within it on both sides
_STEPS = 60  # of a bisection: the double's own precision
TOP = {"top1": 1, "top5": 5}


def right(scores: np.ndarray, labels: np.ndarray, metric: str) -> np.ndarray:
    """Which answers are right: bool [n].

    Args:
        scores: [n, classes], of any number type. Of equal scores the first class comes first, as in argmax.
        labels: [n] class numbers.
        metric: "top1" or "top5".

    An answer with a score that is not finite is wrong.
    """
    values = scores.astype(np.float64)
    own = values[np.arange(len(values)), labels][:, None]
    earlier = np.arange(values.shape[1]) < labels[:, None]
    ahead = (values > own).sum(axis=1) + ((values == own) & earlier).sum(axis=1)
    found: np.ndarray = (ahead < TOP[metric]) & np.isfinite(values).all(axis=1)
    return found


@dataclass(frozen=True)
class Share:
    """How many of ``count`` are right; ``low`` and ``high`` are Wilson's interval of the true share."""

    right: int
    count: int
    low: float
    high: float

    @classmethod
    def of(cls, flags: np.ndarray) -> Share:
        """Of bool [n], n at least 1."""
        good, count = int(flags.sum()), len(flags)
        return cls(good, count, *wilson(good, count))

    @property
    def value(self) -> float:
        """The share itself."""
        return self.right / self.count

    def as_json(self) -> Dict[str, Any]:
        """For the report and the manifest."""
        return {
            "accuracy": self.value, "right": self.right, "count": self.count,
            "low": self.low, "high": self.high,
        }  # fmt: skip

    def __str__(self) -> str:
        return (
            f"{self.value:.2%} ({self.right} of {self.count}; {CONFIDENCE:.0%} interval "
            f"{self.low:.2%} to {self.high:.2%})"
        )


def wilson(good: int, count: int) -> tuple[float, float]:
    """Wilson's score interval of a share ``good`` of ``count``, count at least 1."""
    share, z2 = good / count, _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    # Exact at the ends, where rounding would leave 0.9999999999999998.
    return (0.0 if good == 0 else middle - half), (1.0 if good == count else middle + half)


@dataclass(frozen=True)
class Drop:
    """What changes between two runs over the same samples.

    Attributes:
        lost: right before, wrong after.
        gained: wrong before, right after.
        low, high: Tango's interval of the true drop in accuracy; negative where accuracy rises.
        p: McNemar's exact test: how often chance alone would be this uneven, if nothing had changed.
    """

    lost: int
    gained: int
    count: int
    low: float
    high: float
    p: float

    @classmethod
    def of(cls, before: np.ndarray, after: np.ndarray) -> Drop:
        """Of two bool [n], n at least 1."""
        lost, gained = int((before & ~after).sum()), int((after & ~before).sum())
        low, high = tango(lost, gained, len(before))
        return cls(lost, gained, len(before), low, high, mcnemar(lost, gained))

    @property
    def value(self) -> float:
        """The accuracy before less the accuracy after."""
        return (self.lost - self.gained) / self.count

    def as_json(self) -> Dict[str, Any]:
        """For the report and the manifest."""
        return {
            "drop": self.value, "lost": self.lost, "gained": self.gained, "count": self.count,
            "low": self.low, "high": self.high, "p": self.p,
        }  # fmt: skip

    def __str__(self) -> str:
        return (
            f"{self.value * 100:+.2f} points ({self.lost} lost, {self.gained} gained of {self.count}; "
            f"{CONFIDENCE:.0%} interval {self.low * 100:+.2f} to {self.high * 100:+.2f})"
        )


def tango(lost: int, gained: int, count: int) -> tuple[float, float]:
    """Tango's interval of (lost - gained) / count: the differences that a score test does not reject."""
    high = _upper(lost, gained, count)
    return -_upper(gained, lost, count), high


def _upper(lost: int, gained: int, count: int) -> float:
    low, high = (lost - gained) / count, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _score(lost, gained, count, middle) > -_Z:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _score(lost: int, gained: int, count: int, drop: float) -> float:
    """The standard score of what was counted, if the true difference were ``drop``."""
    # The most likely share of gained samples under that drop: the larger root of a quadratic.
    b = -lost - gained + (2 * count - lost + gained) * drop
    c = -gained * drop * (1 - drop)
    share = (math.sqrt(max(b * b - 8 * count * c, 0.0)) - b) / (4 * count)
    variance = count * (2 * share + drop * (1 - drop))
    away = lost - gained - count * drop
    if variance <= 0:
        return 0.0 if away == 0 else math.copysign(math.inf, away)
    return away / math.sqrt(variance)


def mcnemar(lost: int, gained: int) -> float:
    """McNemar's exact test, two-sided: 1.0 where nothing changed."""
    changed = lost + gained
    tail = term = 1
    for k in range(min(lost, gained)):
        term = term * (changed - k) // (k + 1)  # the binomial coefficients, each from the one before
        tail += term
    return min(1.0, float(2 * tail / 2**changed))  # whole numbers until the last division


def enough_for_share(share: float, bound: float) -> int:
    """How many samples would show, at this share of right answers, that it is above ``bound``."""
    return _first(lambda n: wilson(round(share * n), n)[0] >= bound)


def enough_for_drop(lost: float, gained: float, bound: float) -> int:
    """How many samples would show, at these shares of changes, that the drop is below ``bound``."""
    return _first(lambda n: tango(round(lost * n), round(gained * n), n)[1] <= bound)


def _first(holds: Callable[[int], bool]) -> int:
    """About the least n for which it holds, to 1 %; 0 where even ten million would not do."""
    low, high = 0, 1
    while not holds(high):
        low, high = high, high * 2
        if high > 10_000_000:
            return 0
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
