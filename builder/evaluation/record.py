"""What an evaluation found: ``evaluation.json`` of a release, and what the manifest repeats of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from builder.evaluation.data import Data, scores_of
from builder.evaluation.metrics import Drop, Share
from builder.evaluation.runs import Run
from builder.spec.model import Spec
from models_volume.layout import EVALUATION

SCHEMA = 1
# What the manifest says of it.
SUMMARY = ("data", "metric", "bounds", "same_file", "before", "after", "drop", "live")


@dataclass(frozen=True)
class Past:
    """A release's evaluation, as far as it can be compared with another.

    Attributes:
        right: bool [n], which samples it had right; None where ``why_not`` says why they cannot be compared.
        engine: its engine file's sha256.
        data: the sha256 of what it was evaluated on.
    """

    version: int
    right: Optional[np.ndarray]
    engine: str = ""
    data: str = ""
    why_not: str = ""


@dataclass(frozen=True)
class Record:
    """Both runs over the same data, and what was live then.

    Attributes:
        before: the source model's run: the exported ONNX in FP32, by onnxruntime.
        after: the engine's.
        engine: the engine file's sha256.
        same_file: whether the engine is the exported ONNX itself, so that there is nothing to be lost.
    """

    spec: Spec
    data: Data
    before: Run
    after: Run
    engine: str
    same_file: bool
    past: Optional[Past]

    @property
    def accuracy_before(self) -> Share:
        """The source model's."""
        return Share.of(self.before.right)

    @property
    def accuracy(self) -> Share:
        """The engine's."""
        return Share.of(self.after.right)

    @property
    def drop(self) -> Drop:
        """From the source model to the engine."""
        return Drop.of(self.before.right, self.after.right)

    @property
    def live_drop(self) -> Optional[Drop]:
        """From the live release to the engine; None where they cannot be compared."""
        if self.past is None or self.past.right is None:
            return None
        return Drop.of(self.past.right, self.after.right)

    def classes(self) -> List[Dict[str, Any]]:
        """For each class with samples: its number, label, count, and how many are right before and after."""
        output, rows = scores_of(self.spec), []
        names = output.labels.read_text("utf-8").splitlines() if output.labels else []
        for number in np.unique(self.data.labels).tolist():
            mine = self.data.labels == number
            row = {"class": number, "label": names[number] if names else "", "count": int(mine.sum())}
            row.update(before=int(self.before.right[mine].sum()), after=int(self.after.right[mine].sum()))
            rows.append(row)
        return rows

    def as_json(self) -> Dict[str, Any]:
        """All of it."""
        asked = self.spec.evaluation
        assert asked is not None
        return {
            "schema": SCHEMA,
            "model": self.spec.name,
            "data": {
                "kind": asked.kind, "name": asked.path.name, "sha256": self.data.sha256,
                "samples": len(self.data.samples), "classes": len(np.unique(self.data.labels)),
            },
            "metric": asked.metric,
            "bounds": {"min": asked.minimum, "max_drop": asked.max_drop},
            "engine": self.engine,
            "same_file": self.same_file,
            "before": self.accuracy_before.as_json(),
            "after": self.accuracy.as_json(),
            "drop": self.drop.as_json(),
            "live": self._live(),
            "by_class": self.classes(),
            "samples": {
                "name": [s.name for s in self.data.samples],
                "label": self.data.labels.tolist(),
                "first_before": self.before.first.tolist(),
                "first_after": self.after.first.tolist(),
                "right_before": _bits(self.before.right),
                "right_after": _bits(self.after.right),
            },
        }  # fmt: skip

    def _live(self) -> Optional[Dict[str, Any]]:
        if self.past is None:
            return None
        drop = self.live_drop
        found: Dict[str, Any] = {"version": self.past.version}
        return {**found, "not_compared": self.past.why_not} if drop is None else {**found, **drop.as_json()}


def summary(data: Dict[str, Any]) -> Dict[str, Any]:
    """The manifest's part of ``as_json``."""
    return {key: data[key] for key in SUMMARY}


def past(version: int, folder: Path, data: str = "", metric: str = "", count: int = 0) -> Past:
    """A release's evaluation by its folder, for comparison with another.

    Args:
        data: the sha256 of the other's data, of ``count`` samples, and its metric; the release's own when
            left out.
    """
    try:
        found = json.loads((folder / EVALUATION).read_text("utf-8"))
        own = str(found["data"]["sha256"])
        if data and (own, found["metric"]) != (data, metric):
            return Past(version, None, why_not="it was evaluated on other data, or by another metric")
        right = np.array([bit == "1" for bit in found["samples"]["right_after"]], bool)
        if len(right) and len(right) == (count or len(right)):
            return Past(version, right, str(found["engine"]), own)
    except FileNotFoundError:
        return Past(version, None, why_not="it was not evaluated")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # as for one of another length
    return Past(version, None, why_not="its evaluation cannot be read")


def _bits(flags: np.ndarray) -> str:
    return "".join("1" if flag else "0" for flag in flags)
