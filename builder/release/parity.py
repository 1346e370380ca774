"""The parity gate: does the engine answer as the source model does, and how steady are its answers?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from builder.engine import Arrays, Engine
from builder.errors import ParityError
from builder.export import golden
from builder.spec.model import Output, Spec
from models_volume import comparator
from models_volume.comparator import Allowance

_REMEDY = (
    "try precision: fp32 in the spec; if that agrees, FP16 is too coarse for this model, or the tolerances "
    "under parity: are too tight for it"
)
_INT8_REMEDY = (
    "leave top1 and max_abs out of parity: they then follow what quantizing changed; if they are, try "
    "precision: int8 instead of int8_fp16, or fp16"
)


@dataclass(frozen=True)
class Verified:
    """An engine that agrees with its source model.

    Attributes:
        figures: what the manifest says of it.
        answers: the engine's own answers to the golden samples, [samples, *dims] by output name.
        allowed: how far each output may be from the release's when it is served.
    """

    figures: Dict[str, Any]
    answers: Arrays
    allowed: Dict[str, Allowance]


def verify(spec: Spec, engine: Engine, file: Path, inputs: Arrays, outputs: Arrays, work: Path) -> Verified:
    """Run the golden samples at every size of the profile and compare.

    Running at min, opt and max also proves that the engine loads and takes those batches.

    Raises:
        EngineError: the engine does not load or run.
        ParityError: an answer is outside the spec's tolerances.
    """
    count = len(next(iter(inputs.values())))
    rows: List[Dict[str, Any]] = []
    own: Arrays = {}
    spread = {o.name: 0.0 for o in spec.outputs}
    # The largest size first: every sample goes through it, and those answers are the engine's own; at the
    # smaller ones one batch proves the size, and starts elsewhere for the sake of variety.
    for size in sorted(spec.batch.sizes(), reverse=True):
        starts = list(range(0, count, size)) if size == spec.batch.max else [(7 * size) % count]
        runs = [engine.run(spec, file, golden.batch_of(inputs, size, start), work) for start in starts]
        wanted = golden.batch_of(outputs, size * len(runs), starts[0])
        for output in spec.outputs:
            name = output.name
            found = np.concatenate([_checked(output, wanted[name], size, run[name]) for run in runs])
            rows.append({"batch": size, **compare(output, wanted[name], found)})
            own.setdefault(name, found[:count])
            again = golden.batch_of({name: own[name]}, len(found), starts[0])[name]
            spread[name] = max(spread[name], comparator.compare(again, found).max_abs)
    rows.sort(key=lambda row: row["batch"])
    figures: Dict[str, Any] = {
        "samples": count,
        "tolerance": spec.parity.tolerance(),
        "top1": min((r["top1"] for r in rows if r["top1"] is not None), default=None),
        "max_abs": max(r["max_abs"] for r in rows),
        "by_batch": rows,
    }
    _gate(spec, figures)
    parity = {name: max(r["max_abs"] for r in rows if r["output"] == name) for name in own}
    allowed = {name: Allowance.measured(own[name], parity[name], spread[name]) for name in own}
    figures["spread"] = spread
    figures["served"] = {name: a.as_json() for name, a in allowed.items()}
    return Verified(figures, own, allowed)


def _checked(output: Output, wanted: np.ndarray, size: int, found: np.ndarray) -> np.ndarray:
    """``found`` as it is; NumPy would stretch an array of another shape to fit, and find it equal."""
    shape = (size, *wanted.shape[1:])
    if found.shape != shape:
        raise ParityError(
            f"the engine gave output {output.name} as {list(found.shape)} at batch {size}",
            expected=str(list(shape)),
        )
    return found


def compare(output: Output, wanted: np.ndarray, found: np.ndarray) -> Dict[str, Any]:
    """Top-1 agreement and the largest absolute difference between two arrays [n, *dims].

    models_volume.comparator says what counts as agreement.
    """
    figures = comparator.compare(wanted, found)
    return {"output": output.name, "top1": figures.top1, "max_abs": figures.max_abs}


def _gate(spec: Spec, figures: Dict[str, Any]) -> None:
    allowed = figures["tolerance"]
    bad = [
        f"{r['output']} at batch {r['batch']}: "
        f"top-1 {'-' if r['top1'] is None else format(r['top1'], '.2%')}, max abs {r['max_abs']:.3g}"
        for r in figures["by_batch"]
        if r["max_abs"] > allowed["max_abs"] or (r["top1"] is not None and r["top1"] < allowed["top1"])
    ]
    if bad:
        raise ParityError(
            "the engine does not agree with the source model; nothing is published",
            expected=f"top-1 of at least {allowed['top1']:.2%} and max abs of at most {allowed['max_abs']:g} "
            f"on {figures['samples']} golden samples",
            details="\n".join(bad),
            remedy=_INT8_REMEDY if spec.quantization is not None else _REMEDY,
        )
