"""What better means: the loads that are measured, and one figure of merit made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

KINDS = ("throughput", "latency", "balanced")
# What every load over the latency budget costs: a load at twice the budget counts for 1/16 of its images/s,
# so that a setting that keeps the budget wins against one that does not, and two that do not still compare.
_STEEP = 4.0

Figures = Dict[str, Any]  # of one look at one load: images_per_s, and p50, p95, p99 in ms
Looks = Dict[int, Figures]  # by clients


@dataclass(frozen=True)
class Objective:
    """One of ``KINDS`` over ``clients`` (ascending), with a budget for p99 in ms or None.

    throughput: images/s with the most clients; with a budget, at the best load that keeps it.
    latency: p50 with the fewest clients. balanced: the geometric mean of both.
    """

    kind: str
    clients: Tuple[int, ...]
    budget_ms: Optional[float] = None

    def loads(self) -> List[int]:
        """The loads that every look needs, ascending."""
        if self.kind == "latency":
            return [self.clients[0]]
        if self.kind == "balanced":
            return sorted({self.clients[0], self.clients[-1]})
        return list(self.clients) if self.budget_ms else [self.clients[-1]]

    def merit(self, looks: Looks) -> float:
        """The natural logarithm of how good it is: differences of two are logarithms of ratios."""
        most, least = looks[max(self.loads())], looks[min(self.loads())]
        if self.kind == "latency":
            return -math.log(least["p50"]) + self._late(least)
        if self.kind == "balanced":
            return (math.log(most["images_per_s"]) - math.log(least["p50"])) / 2 + self._late(most)
        return max(math.log(f["images_per_s"]) + self._late(f) for f in (looks[n] for n in self.loads()))

    def keeps_budget(self, looks: Looks) -> bool:
        """Whether the load that counts keeps the budget; of throughput, whether any load does."""
        if self.budget_ms is None:
            return True
        if self.kind == "throughput":
            return any(looks[n]["p99"] <= self.budget_ms for n in self.loads())
        counts = min(self.loads()) if self.kind == "latency" else max(self.loads())
        return bool(looks[counts]["p99"] <= self.budget_ms)

    def _late(self, figures: Figures) -> float:
        if self.budget_ms is None:
            return 0.0
        return _STEEP * min(0.0, math.log(self.budget_ms / figures["p99"]))

    def words(self) -> str:
        """The objective as people say it."""
        most, least = self.clients[-1], self.clients[0]
        within = f", p99 within {self.budget_ms:g} ms" if self.budget_ms else ""
        best = f"at the best load of {', '.join(map(str, self.clients))} clients"
        return {
            "latency": f"p50 with {count(least)}",
            "throughput": f"images/s {best if self.budget_ms else f'with {count(most)}'}",
            "balanced": f"p50 with {count(least)} and images/s with {count(most)} alike",
        }[self.kind] + within


def count(clients: int) -> str:
    """So many clients, in words."""
    return "1 client" if clients == 1 else f"{clients} clients"
