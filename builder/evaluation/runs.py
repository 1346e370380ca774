"""A model's answers to labelled data, as far as the evaluation needs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, List

import numpy as np

from builder.errors import EvaluationError
from builder.evaluation import metrics
from builder.evaluation.data import Data, scores_of
from builder.spec.model import Spec
from models_volume.golden import Arrays


@dataclass(frozen=True)
class Run:
    """One model on all samples, in their order.

    Attributes:
        first: int64 [n], the class with the highest score.
        right: bool [n], by the spec's metric.
        margin: float64 [n], the right class's score less the best of the others.
    """

    first: np.ndarray
    right: np.ndarray
    margin: np.ndarray


def measure(spec: Spec, data: Data, answer: Callable[[Arrays], Arrays]) -> Run:
    """Run all samples in batches as large as the model takes.

    Args:
        answer: from arrays [n, *dims] by input name to arrays [n, *dims] by output name.

    Raises:
        EvaluationError: a sample is not what it was, or an answer has another shape than [n, classes].
    """
    assert spec.evaluation is not None
    output, labels = scores_of(spec), data.labels
    parts: List[Run] = []
    start = 0
    for batch in data.batches(spec.batch.max):
        scores = answer({spec.inputs[0].name: batch})[output.name]
        if scores.shape != (len(batch), output.dims[0]):
            raise EvaluationError(
                f"output {output.name} is {list(scores.shape)} for {len(batch)} samples",
                expected=str([len(batch), output.dims[0]]),
            )
        mine = labels[start : start + len(batch)]
        parts.append(_of(scores.astype(np.float64), mine, spec.evaluation.metric))
        start += len(batch)
    return Run(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("first", "right", "margin")))


def _of(scores: np.ndarray, labels: np.ndarray, metric: str) -> Run:
    rows = np.arange(len(scores))
    others = np.where(np.isfinite(scores), scores, -np.inf)
    first = others.argmax(axis=1)
    others[rows, labels] = -np.inf
    return Run(first, metrics.right(scores, labels, metric), scores[rows, labels] - others.max(axis=1))
