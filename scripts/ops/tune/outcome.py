"""What a tuning run found, as data, as a table, and as text that can be put into a spec and .env."""

from __future__ import annotations

import json
import math
from statistics import median
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from ops.tune.candidates import Candidate
from ops.tune.judge.objective import Looks
from ops.tune.judge.statistics import Look, Verdict

_FIGURES = ("images_per_s", "p50", "p95", "p99")


def medians(looks: Sequence[Look]) -> Looks:
    """The median of each figure over all looks that had the load, by clients."""
    clients = sorted({n for look in looks for n in look.loads})
    return {
        n: {name: median(look.loads[n][name] for look in looks if n in look.loads) for name in _FIGURES}
        for n in clients
    }


def row(
    candidate: Candidate, state: str, looks: Sequence[Look], gain: Optional[float], reason: str = ""
) -> Dict[str, Any]:
    """A candidate as data.

    Args:
        state: present, chosen, measured, failed, refused or not measured.
        gain: a difference of merits; None where there is none.
    """
    return {
        "name": candidate.name,
        "what": candidate.words(),
        "changes": candidate.changes,
        "settings": candidate.server,
        "state": state,
        "reason": reason,
        "ratio": None if gain is None else round(math.exp(gain), 4),
        "looks": len(looks),
        "loads": {str(n): figures for n, figures in medians(looks).items()},
    }


def judged(verdict: Verdict) -> Dict[str, Any]:
    """A confirmation as data: the ratio and how far it may be off."""
    ratio = math.exp(verdict.gain)
    return {
        "ratio": round(ratio, 4),
        "noise": round(ratio * verdict.error, 4),
        "wins": verdict.wins,
        "blocks": verdict.blocks,
    }


def table(rows: Iterable[Mapping[str, Any]]) -> List[List[str]]:
    """Heading and a line for each candidate that was measured, the best first."""
    measured = [r for r in rows if r["loads"]]
    clients = sorted({int(n) for r in measured for n in r["loads"]})
    head = ["", "times", *(f"{n}: images/s p50 p99" for n in clients), "what"]
    lines = []
    for found in sorted(measured, key=lambda r: -(r["ratio"] or 1.0)):
        cells = [_cell(found["loads"].get(str(n))) for n in clients]
        mark = {"chosen": "* ", "present": "= "}.get(found["state"], "  ")
        lines.append([mark + found["name"], f"{found['ratio'] or 1:.2f}", *cells, found["what"]])
    return [head, *lines]


def _cell(figures: Optional[Mapping[str, float]]) -> str:
    if figures is None:
        return "-"
    return f"{figures['images_per_s']:.0f} {figures['p50']:.2f} {figures['p99']:.2f}"


def yaml_text(changes: Mapping[str, Any], indent: str = "") -> str:
    """``changes`` as YAML: words and numbers need no more than JSON's own forms."""
    lines = []
    for key, value in changes.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{key}:")
            lines.append(yaml_text(value, indent + "  "))
        else:
            lines.append(f"{indent}{key}: {json.dumps(value)}")
    return "\n".join(lines)
