"""Whether the canaries are worse than the others, by what the nodes' agents have measured."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cluster.rollout.views import View

FEW = 100  # requests: with fewer, a share of failures says nothing
_WORSE_FAILURES = 0.01  # of the canaries' requests, above the others' share
_WORSE_P99 = 2.0  # a golden request is slow above so many times the others' p99, and at least ...
_WORSE_P99_MS = 10.0  # ... above it by this
_CHANCE = 0.001  # how often, at one look, canaries that are as fast as the others are called slow


def compare(canaries: Sequence[View], others: Sequence[View]) -> str:
    """How the canaries are worse than the others; empty when they are not, or when nothing can be told."""
    return _failures(canaries, others) or _slowness(canaries, others)


def total(key: str, views: Sequence[View]) -> int:
    """The sum of a count in the nodes' reports."""
    return sum(int(v.metrics.get(key) or 0) for v in views)


def _failures(canaries: Sequence[View], others: Sequence[View]) -> str:
    bad, asked = (total(key, canaries) for key in ("failures", "requests"))
    their_bad, theirs = (total(key, others) for key in ("failures", "requests"))
    if asked < FEW:
        return ""
    share, usual = bad / asked, their_bad / theirs if theirs else 0.0
    if share <= usual + _WORSE_FAILURES:
        return ""
    return f"{share:.1%} of {asked} requests failed, elsewhere {usual:.1%}"


def _slowness(canaries: Sequence[View], others: Sequence[View]) -> str:
    """An agent sends few golden requests, and the p99 of few is the slowest of them: one that met a pause of
    the machine. So the slow ones are counted, and it is asked whether chance explains them."""
    theirs = sorted(float(v.metrics["probe_p99_ms"]) for v in others if v.metrics.get("probe_p99_ms"))
    sent = total("probes", canaries)
    if not theirs or not sent:
        return ""
    usual = theirs[len(theirs) // 2]
    limit = max(usual * _WORSE_P99, usual + _WORSE_P99_MS)
    slow = sum(float(ms) > limit for v in canaries for ms in v.metrics.get("probe_slowest_ms") or ())
    if _at_least(slow, sent) >= _CHANCE:
        return ""
    return (
        f"{slow} of {sent} golden requests took more than {limit:.1f} ms; elsewhere the p99 is {usual:.1f} ms"
    )


def _at_least(slow: int, sent: int) -> float:
    """How likely ``slow`` or more of ``sent`` requests are above the p99, which one in a hundred is."""
    ways = (math.lgamma(sent + 1) - math.lgamma(k + 1) - math.lgamma(sent - k + 1) for k in range(slow))
    fewer = sum(math.exp(w + k * math.log(0.01) + (sent - k) * math.log(0.99)) for k, w in enumerate(ways))
    return 1 - fewer
