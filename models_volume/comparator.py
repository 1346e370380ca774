"""Are these answers right? One rule for the parity gate, the smoke test and the proof of a redeploy.

At build an engine's answers are compared with the source model's; how far they may differ is the spec's
word, since another precision may be another number. What serves is the very engine that was verified then,
so it is compared with that engine's own answers, and the only difference left is rounding: an engine may
sum in another order at another batch size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Optional

import numpy as np

# Two scores are a tie when they differ by less than FP16 tells apart.
_TIE = 2.0**-10
# What rounding may change, as a part of an output's largest value. The least is 256 units of float32 in the
# last place (3e-5): room for sums in another order, on another processor, and for the six digits that
# trtexec prints (5e-6). The most is 8 units of FP16 (0.0078): more than that is no rounding, whatever an
# engine's parity is.
_LEAST, _MOST = 2.0**-15, 2.0**-7
# Few samples are measured at each batch size, and traffic is joined to sizes that none was measured at.
_UNSEEN = 4.0


@dataclass(frozen=True)
class Figures:
    """How two arrays [n, *dims] agree.

    Attributes:
        top1: the share of rows whose best class agrees; None unless ``dims`` is one dimension of two or more.
        max_abs: the largest difference of any element; infinite where a value is not finite.
        row: where that is.
    """

    top1: Optional[float]
    max_abs: float
    row: int


def compare(wanted: np.ndarray, found: np.ndarray, tie: float = 0.0) -> Figures:
    """Compare two arrays of one shape [n, *dims].

    A row agrees when the class that ``found`` picks has, in ``wanted``, a score equal to its best within
    ``tie`` and within the resolution of FP16: such a tie is the number format's, not a wrong answer. A value
    that is not finite makes its row wrong.
    """
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    difference = np.abs(a - b)
    difference = np.where(np.isnan(difference), np.inf, difference).reshape(len(a), -1).max(axis=1)
    top1 = None
    if a.ndim == 2 and a.shape[1] > 1:
        best = a.max(axis=1)
        picked = a[np.arange(len(a)), np.where(np.isnan(b), -np.inf, b).argmax(axis=1)]
        agrees = (picked >= best - tie - np.abs(best) * _TIE) & np.isfinite(b).all(axis=1)
        top1 = float(agrees.mean())
    return Figures(top1, float(difference.max()), int(difference.argmax()))


@dataclass(frozen=True)
class Allowance:
    """How far an output that is served may be from two arrays of the release.

    Attributes:
        golden: from the source model's answers: the parity that was measured, and rounding.
        verified: from the engine's own answers at build: rounding. None in a release that lacks them.
    """

    golden: float
    verified: Optional[float] = None

    @classmethod
    def measured(cls, verified: np.ndarray, parity: float, spread: float) -> Allowance:
        """Of one output, by what was measured at build on this machine.

        Args:
            verified: the engine's answers [n, *dims].
            parity: the largest difference between any of its answers and the source model's.
            spread: the largest difference between its answers to one sample in two batches.

        Rounding is what was seen of it between two batches, four times over, and what parity tells: two
        implementations of one model in one precision differ by their rounding (1e-6 for ResNet50 on a CPU).
        Parity may be as good as none by luck, and in FP16 it is the format's error, which two runs of one
        engine share: so it counts within bounds. Whole numbers have no rounding but what was measured: an
        index that was right at build must be equal.
        """
        least = most = 0.0
        if np.issubdtype(verified.dtype, np.floating):
            scale = float(np.abs(verified.astype(np.float64)).max())
            # An FP16 output is itself stored in units of 2**-10.
            least = scale * (2 * _TIE if verified.dtype == np.float16 else _LEAST)
            most = scale * _MOST
        else:
            most = parity
        rounding = _UNSEEN * spread + min(max(parity, least), most)
        return cls(parity + rounding, rounding)

    @classmethod
    def of(cls, data: Dict[str, Any], ceiling: float) -> Allowance:
        """From a manifest's numbers; ``ceiling``, the spec's own, where an older release has none.

        Raises KeyError, TypeError or ValueError for what is no allowance.
        """
        if not data:
            return cls(ceiling)
        return cls(float(data["golden"]), float(data["verified"]))

    def as_json(self) -> Dict[str, float]:
        """For the manifest."""
        assert self.verified is not None
        return {"golden": self.golden, "verified": self.verified}


def wrong(
    name: str, found: np.ndarray, golden: np.ndarray, verified: Optional[np.ndarray], allowed: Allowance
) -> str:
    """What is wrong with a served output; empty when it is as released.

    Args:
        name: the output's.
        found, golden, verified: [n, *dims], the same n samples; ``verified`` is None in an older release.
    """
    if found.dtype != golden.dtype or found.shape != golden.shape:
        return f"output {name} is {found.dtype} {list(found.shape)}, not {golden.dtype} {list(golden.shape)}"
    if not np.isfinite(found.astype(np.float64)).all():
        return f"output {name} holds values that are not finite"
    problem = _differs(compare(golden, found), "the golden one", allowed.golden)
    if not problem and verified is not None and allowed.verified is not None:
        figures = compare(verified, found, allowed.verified)
        problem = _differs(figures, "what was verified at build", allowed.verified)
        if not problem and figures.top1 is not None and figures.top1 < 1:
            problem = f"has another first class than was verified at build ({figures.top1:.0%} agree)"
    return problem and f"output {name} {problem}"


def _differs(figures: Figures, what: str, allowed: float) -> str:
    if figures.max_abs <= allowed:
        return ""
    return f"differs from {what} by {figures.max_abs:.3g} (row {figures.row}); allowed {allowed:.3g}"
