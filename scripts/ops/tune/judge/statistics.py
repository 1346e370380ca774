"""Candidates compared with the present configuration, and the noise of that.

All figures are differences of merits, which are logarithms (objective.py): 0.1 is 10 % better, near enough.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Callable, Dict, List, Sequence, Tuple

from ops.tune.judge.objective import Looks

PRESENT = "present"
# Student's t, one-sided 97.5 %, by degrees of freedom; the last counts for all beyond.
_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20)
LEAST_GAIN = math.log(1.01)  # not worth another release


@dataclass(frozen=True)
class Look:
    """One measurement of ``who`` that was in the middle of its time ``at`` seconds, over all loads."""

    who: str
    at: float
    window: float
    loads: Looks

    def as_json(self) -> Dict[str, object]:
        """Plain data, for the journal."""
        loads = {str(n): figures for n, figures in self.loads.items()}
        return {"who": self.who, "at": round(self.at, 3), "window": self.window, "loads": loads}

    @classmethod
    def of(cls, data: Dict[str, object]) -> Look:
        """From ``as_json``."""
        loads = data["loads"]
        assert isinstance(loads, dict)
        by_clients = {int(n): figures for n, figures in loads.items()}
        return cls(str(data["who"]), float(str(data["at"])), float(str(data["window"])), by_clients)


Merit = Callable[[Looks], float]


def differences(group: Sequence[Look], merit: Merit) -> List[Tuple[str, float]]:
    """How much better each candidate of a group is than the present one, which begins and ends it.

    The present one's merit at a candidate's time lies on the line between its looks before and after, so that
    a machine that grows slower meanwhile does so for both.
    """
    first, last = group[0], group[-1]
    assert first.who == last.who == PRESENT
    start, end = merit(first.loads), merit(last.loads)
    span = (last.at - first.at) or 1.0
    return [
        (look.who, merit(look.loads) - (start + (end - start) * (look.at - first.at) / span))
        for look in group[1:-1]
    ]


def noise(pairs: Sequence[Tuple[float, float]]) -> float:
    """The standard deviation of one look, from pairs of merits of one and the same configuration."""
    if not pairs:
        return 0.0
    return math.sqrt(sum((a - b) ** 2 for a, b in pairs) / (2 * len(pairs)))


@dataclass(frozen=True)
class Verdict:
    """A candidate against the present one.

    Attributes:
        gain: the mean difference; error: its standard error.
        wins: beyond doubt. clear: so far beyond that more blocks change nothing.
        blocks: how many were judged.
    """

    gain: float
    error: float
    wins: bool
    clear: bool
    blocks: int


def verdict(blocks: Sequence[Sequence[Look]], merit: Merit) -> Verdict:
    """Judge blocks of four looks: present, candidate, candidate, present.

    In a block a steady drift cancels, and blocks share no look, so they are independent. The candidate wins
    when its mean gain is beyond what chance alone gives, and worth a release at all. The
    noise is the larger of two: how far the blocks differ, and how far the present one differs from itself
    where two of its looks follow each other.
    """
    gains = [(merit(b.loads) + merit(c.loads) - merit(a.loads) - merit(d.loads)) / 2 for a, b, c, d in blocks]
    pairs = [(merit(x[3].loads), merit(y[0].loads)) for x, y in zip(blocks, blocks[1:])]
    count = len(gains)
    mean = sum(gains) / count
    spread = math.sqrt(sum((g - mean) ** 2 for g in gains) / (count - 1)) if count > 1 else math.inf
    error = max(spread, noise(pairs)) / math.sqrt(count)
    needed = max(LEAST_GAIN, _T[min(count - 2, len(_T) - 1)] * error) if count > 1 else math.inf
    return Verdict(mean, error, mean > needed, mean > 3 * needed, count)
