"""Whether INT8 is good enough: judged on samples that nothing was fitted to, against the spec's bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from builder.evaluation import metrics
from builder.evaluation.data import scores_of
from builder.evaluation.metrics import Drop, Share
from builder.quantize import agreement, answers
from builder.quantize.answers import Arrays
from builder.quantize.data import Samples
from builder.spec.model import Int8Bounds, Spec


@dataclass(frozen=True)
class Check:
    """One bound and what was found.

    Attributes:
        what: what was measured, of which output.
        found: the figure with its interval, in words.
        bound: what is asked, in words.
        passed: whether it is met.
        hint: what would change that; empty where nothing is known.
        data: the figures, for the report.
    """

    what: str
    found: str
    bound: str
    passed: bool
    hint: str
    data: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "what": self.what,
            "found": self.found,
            "bound": self.bound,
            "passed": self.passed,
            **self.data,
        }

    def __str__(self) -> str:
        text = f"{self.what}: {self.found}; asked for {self.bound}"
        return f"{text} ({self.hint})" if self.hint else text


def checks(spec: Spec, reference: Arrays, found: Arrays, held_out: Samples) -> list[Check]:
    """All bounds, output by output.

    Args:
        reference: the source model's answers to the held-out samples, [n, *dims] by output name.
        found: the quantized model's.
    """
    assert spec.quantization is not None
    bounds = spec.quantization.bounds
    made: list[Check] = []
    for name, wanted in reference.items():
        whole = wanted.dtype.kind != "f"  # class numbers, which have no noise and no confidence
        if not whole:
            made.append(_sqnr(name, wanted, found[name], bounds))
        same = agreement.best_agrees(wanted, found[name])
        if same is not None:
            made.append(_share(f"{name}: agreement with FP32", same, bounds.min_agreement))
        if same is not None and not whole:
            sure = agreement.confident(wanted)
            what = f"{name}: agreement where FP32 is confident"
            made.append(_share(what, same[sure], bounds.min_confident_agreement))
    if spec.evaluation is not None:
        made.append(_drop(spec, reference, found, held_out))
    return made


def _sqnr(name: str, wanted: np.ndarray, found: np.ndarray, bounds: Int8Bounds) -> Check:
    ratio = answers.sqnr_db(wanted, found)
    least = bounds.min_sqnr_db
    return Check(
        f"{name}: SQNR", f"{ratio:.1f} dB", f"at least {least:g} dB", ratio >= least, "", {"sqnr_db": ratio}
    )


def _share(what: str, same: np.ndarray, least: float) -> Check:
    share = Share.of(same)
    passed = share.low >= least
    hint = ""
    if not passed and share.value > least:
        more = metrics.enough_for_share(share.value, least)
        hint = f"{share.count} samples are too few to show it; about {more} would" if more else ""
    data = {"agreement": share.value, "count": share.count, "low": share.low, "high": share.high}
    return Check(what, str(share), f"at least {least:.2%}", passed, hint, data)


def _drop(spec: Spec, reference: Arrays, found: Arrays, held_out: Samples) -> Check:
    assert spec.evaluation is not None
    asked, output = spec.evaluation, scores_of(spec).name
    assert held_out.labels is not None
    before, after = (metrics.right(a[output], held_out.labels, asked.metric) for a in (reference, found))
    drop = Drop.of(before, after)
    passed = drop.high <= asked.max_drop
    hint = ""
    if not passed and drop.value < asked.max_drop:
        more = metrics.enough_for_drop(drop.lost / drop.count, drop.gained / drop.count, asked.max_drop)
        hint = f"{drop.count} samples are too few to show it; about {more} would" if more else ""
    shares = {"before": Share.of(before), "after": Share.of(after)}
    return Check(
        f"{output}: drop of {asked.metric} accuracy from {shares['before'].value:.2%}",
        str(drop),
        f"at most {asked.max_drop * 100:g} points",
        passed,
        hint,
        {**drop.as_json(), **{name: share.as_json() for name, share in shares.items()}},
    )
