"""Do two servers' answers agree? Within what the live release's manifest allows.

Both may be as far from the source model as a served answer may be, in opposite directions: a release that was
built for another GPU rounds otherwise. So an output may differ by twice that bound; words must be equal, and
so must whole numbers where the bound is zero.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models_volume import comparator
from models_volume.comparator import Allowance
from triton_stack_client.errors import ClientError
from triton_stack_client.shadow.answers import Answer
from triton_stack_client.verify import release

_FRESH_SECS = 5.0  # between two looks at which release is live


@dataclass(frozen=True)
class Difference:
    """What differs: an output, why in words, and by how much where that is a number."""

    output: str
    why: str
    max_abs: float | None = None
    allowed: float | None = None
    row: int | None = None


class Bounds:
    """What the live releases on the models volume allow, by model and output."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._known: dict[str, tuple[float, dict[str, Allowance]]] = {}

    def of(self, model: str) -> dict[str, Allowance]:
        """A model's bounds; raises ClientError when its live release cannot be read."""
        known = self._known.get(model)
        if known is None or time.monotonic() - known[0] > _FRESH_SECS:
            found = release.live(self._models_dir, [model])
            if not found:
                raise ClientError(f"{model} has no live release on {self._models_dir}")
            known = self._known[model] = (time.monotonic(), found[0].allowed)
        return known[1]


def difference(canary: Answer, other: Answer, allowed: dict[str, Allowance]) -> Difference | None:
    """The first output in which they differ by more than is allowed; None where they agree."""
    if set(canary.outputs) != set(other.outputs):
        names = sorted(set(canary.outputs) ^ set(other.outputs))
        return Difference(names[0], "only one of the servers has this output")
    for name, wanted in other.outputs.items():
        found = canary.outputs[name]
        if found.dtype != wanted.dtype or found.shape != wanted.shape:
            why = f"{found.dtype} {list(found.shape)}, not {wanted.dtype} {list(wanted.shape)}"
            return Difference(name, why)
        if not np.issubdtype(found.dtype, np.number):
            if not np.array_equal(found, wanted):
                return Difference(name, "other values")
            continue
        bound = 2 * allowed[name].golden if name in allowed else 0.0
        figures = comparator.compare(wanted, found)
        if figures.max_abs > bound and not _same(wanted, found, bound):
            return Difference(name, "other values", figures.max_abs, bound, figures.row)
    return None


def _same(wanted: np.ndarray, found: np.ndarray, bound: float) -> bool:
    """Whether they agree although neither is finite throughout: the same model says the same of the same."""
    return bool(np.allclose(found, wanted, rtol=0, atol=bound, equal_nan=True))
