"""The parity gate: does the engine answer as the source model does?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from builder.engine import Arrays, Engine
from builder.errors import ParityError
from builder.export import golden
from builder.spec.model import Output, Spec


def verify(
    spec: Spec, engine: Engine, file: Path, inputs: Arrays, outputs: Arrays, work: Path
) -> Dict[str, Any]:
    """Run the golden samples at every size of the profile and compare; returns the figures.

    Running at min, opt and max also proves that the engine loads and takes those batches.

    Raises:
        EngineError: the engine does not load or run.
        ParityError: an answer is outside the spec's tolerances.
    """
    count = len(next(iter(inputs.values())))
    rows: List[Dict[str, Any]] = []
    for size in spec.batch.sizes():
        # Every sample goes through at the largest size; at the smaller ones one batch proves the size,
        # and starts elsewhere for the sake of variety.
        starts = range(0, count, size) if size == spec.batch.max else [(7 * size) % count]
        runs = [engine.run(spec, file, golden.batch_of(inputs, size, start), work) for start in starts]
        wanted = golden.batch_of(outputs, size * len(runs), starts[0])
        for output in spec.outputs:
            found = np.concatenate([_checked(output, size, run[output.name]) for run in runs])
            rows.append({"batch": size, **compare(output, wanted[output.name], found)})
    figures = {
        "samples": count,
        "tolerance": {"top1": spec.parity.top1, "max_abs": spec.parity.max_abs},
        "top1": min((r["top1"] for r in rows if r["top1"] is not None), default=None),
        "max_abs": max(r["max_abs"] for r in rows),
        "by_batch": rows,
    }
    _gate(spec, figures)
    return figures


def _checked(output: Output, size: int, found: np.ndarray) -> np.ndarray:
    """``found`` as it is; NumPy would stretch an array of another shape to fit, and find it equal."""
    if found.shape != (size, *output.dims):
        raise ParityError(
            f"the engine gave output {output.name} as {list(found.shape)} at batch {size}",
            expected=str([size, *output.dims]),
        )
    return found


def compare(output: Output, wanted: np.ndarray, found: np.ndarray) -> Dict[str, Any]:
    """Top-1 agreement and the largest absolute difference between two arrays [n, *dims].

    Top-1 is None unless ``dims`` is one dimension of two or more scores. A sample agrees when the class
    the engine picks has, in the source's own answer, a score equal to its best within the resolution of
    FP16 (2**-10 of it): such a tie is the number format's, not a wrong answer. NaN anywhere makes
    max_abs infinite and that sample wrong.
    """
    a, b = wanted.astype(np.float64), found.astype(np.float64)
    difference = np.abs(a - b)
    worst = float(np.max(np.where(np.isnan(difference), np.inf, difference)))
    top1 = None
    if len(output.dims) == 1 and output.dims[0] > 1:
        best = a.max(axis=1)
        picked = a[np.arange(len(a)), np.where(np.isnan(b), -np.inf, b).argmax(axis=1)]
        agrees = (picked >= best - np.abs(best) * 2.0**-10) & np.isfinite(b).all(axis=1)
        top1 = float(agrees.mean())
    return {"output": output.name, "top1": top1, "max_abs": worst}


def _gate(spec: Spec, figures: Dict[str, Any]) -> None:
    allowed = spec.parity
    bad = [
        f"{r['output']} at batch {r['batch']}: "
        f"top-1 {'-' if r['top1'] is None else format(r['top1'], '.2%')}, max abs {r['max_abs']:.3g}"
        for r in figures["by_batch"]
        if r["max_abs"] > allowed.max_abs or (r["top1"] is not None and r["top1"] < allowed.top1)
    ]
    if bad:
        raise ParityError(
            "the engine does not agree with the source model; nothing is published",
            expected=f"top-1 of at least {allowed.top1:.2%} and max abs of at most {allowed.max_abs:g} "
            f"on {figures['samples']} golden samples",
            details="\n".join(bad),
            remedy="try precision: fp32 in the spec; if that agrees, FP16 is too coarse for this model, or "
            "the tolerances under parity: are too tight for it",
        )
