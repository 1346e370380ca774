"""How far a quantized model's answers are from the source model's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from builder.quantize import answers
from builder.quantize.answers import Arrays


@dataclass(frozen=True)
class Figures:
    """One number each for all outputs: the worst one's.

    Attributes:
        agreement: the share of samples whose best class is the same; None without an output of scores.
        sqnr_db: signal to quantization noise ratio, in decibels.
    """

    agreement: float | None
    sqnr_db: float

    def meets(self, agreement: float, sqnr_db: float) -> bool:
        """Whether both are at least that."""
        return self.sqnr_db >= sqnr_db and (self.agreement is None or self.agreement >= agreement)

    def __str__(self) -> str:
        share = "" if self.agreement is None else f"agreement {self.agreement:.2%}, "
        return f"{share}SQNR {self.sqnr_db:.1f} dB"


def compare(reference: Arrays, found: Arrays) -> Figures:
    """Of answers [n, *dims] by output name."""
    same = {name: best_agrees(array, found[name]) for name, array in reference.items()}
    shares = [float(rows.mean()) for rows in same.values() if rows is not None]
    ratios = [
        answers.sqnr_db(array, found[name]) for name, array in reference.items() if array.dtype.kind == "f"
    ]
    return Figures(min(shares, default=None), min(ratios, default=answers.MOST_DB))


def best_agrees(reference: np.ndarray, found: np.ndarray) -> np.ndarray | None:
    """Of which samples the best class is the same: bool [n]; None for what tells no class.

    Scores [n, classes] tell one, and so do whole numbers, which then have to be equal.
    """
    if reference.dtype.kind != "f":
        equal: np.ndarray = (reference == found).reshape(len(reference), -1).all(axis=1)
        return equal
    if reference.ndim != 2 or reference.shape[1] < 2:
        return None
    same: np.ndarray = (reference.argmax(axis=1) == found.argmax(axis=1)) & np.isfinite(found).all(axis=1)
    return same


def confident(reference: np.ndarray) -> np.ndarray:
    """The half of the samples whose best score leads the second most: bool [n], of scores [n, classes]."""
    ordered = np.sort(reference.astype(np.float64), axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    chosen = np.zeros(len(margin), bool)
    chosen[np.argsort(-margin, kind="stable")[: (len(margin) + 1) // 2]] = True
    return chosen
