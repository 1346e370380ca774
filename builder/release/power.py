"""How much wrongness the proof of a release would notice, measured when it is built.

The mistakes of mutants.py are put before the very comparison that the smoke test and the proof of a redeploy
make, with this engine's answers and what is allowed to it on this machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import numpy as np

from builder.engine import Arrays, Engine
from builder.errors import EngineError, SourceError
from builder.export import golden
from builder.release import mutants
from builder.release.mutants import Mutant
from builder.release.parity import Verified
from builder.spec.model import Spec
from models_volume import comparator

# Mutants of the inputs run through the engine: with so many rows each, all of ResNet50's take 2 s on two
# CPU cores, and one or two runs of trtexec on a GPU.
_ROWS = 8


def measure(
    spec: Spec,
    engine: Engine,
    file: Path,
    inputs: Arrays,
    outputs: Arrays,
    verified: Verified,
    work: Path,
    *,
    untrained: bool,
) -> Dict[str, Any]:
    """Put every mutant before the comparison; returns {"mutants", "noticed", "passed"}.

    Args:
        inputs, outputs: the golden samples.
        untrained: the weights are random. Many such networks answer everything alike (MobileNetV2 gives
            each class 1/1000 for any picture), which no samples can change: a rehearsal with them goes on,
            and what its proof would not notice is named.

    Raises:
        SourceError: the samples let rows or outputs be mixed up unnoticed.
    """
    passed: List[Dict[str, Any]] = []
    total = 0
    for mutant in mutants.of_answers(spec, verified.answers):
        total += 1
        if not _noticed(mutant.arrays, outputs, verified):
            passed.append(_row(mutant, mutant.arrays, verified))
            if mutant.needed and not untrained:
                raise _too_weak(spec, mutant)
    few = {name: a[:_ROWS] for name, a in inputs.items()}
    ours = mutants.of_inputs(spec, few)
    for mutant, answers in zip(ours, _run_all(spec, engine, file, ours, work)):
        total += 1
        if answers is not None and not _noticed(answers, outputs, verified):
            passed.append(_row(mutant, answers, verified))
    return {"mutants": total, "noticed": total - len(passed), "passed": passed}


def _noticed(answers: Arrays, outputs: Arrays, verified: Verified) -> bool:
    """Whether the comparison finds something wrong with ``answers``, which are to the first samples."""
    return any(
        comparator.wrong(
            name,
            found,
            outputs[name][: len(found)],
            verified.answers[name][: len(found)],
            verified.allowed[name],
        )
        for name, found in answers.items()
    )


def _row(mutant: Mutant, answers: Arrays, verified: Verified) -> Dict[str, Any]:
    """One that passes, and why that is so: it changes the answers by no more than rounding may."""
    changes = {}
    for name, found in answers.items():
        figure = comparator.compare(verified.answers[name][: len(found)], found).max_abs
        changes[name] = f"{name} by {figure:.2g} of {verified.allowed[name].verified:.2g}"
    return {
        "mutant": mutant.name,
        "reason": f"it changes {', '.join(changes.values())} that rounding may change",
    }


def _run_all(spec: Spec, engine: Engine, file: Path, ours: List[Mutant], work: Path) -> List[Any]:
    """The engine's answers to each mutant's inputs; None where the engine refuses them, which is noticed."""
    if not ours:
        return []
    try:
        joined = _run(
            spec, engine, file, {n: np.concatenate([m.arrays[n] for m in ours]) for n in ours[0].arrays}, work
        )
    except EngineError:  # one of them may be the reason
        if len(ours) == 1:
            return [None]
        return [_run_all(spec, engine, file, [mutant], work)[0] for mutant in ours]
    rows = len(next(iter(ours[0].arrays.values())))
    return [{n: a[i * rows : (i + 1) * rows] for n, a in joined.items()} for i in range(len(ours))]


def _run(spec: Spec, engine: Engine, file: Path, inputs: Arrays, work: Path) -> Arrays:
    """Any number of rows, in batches that the engine takes."""
    count = len(next(iter(inputs.values())))
    parts: Dict[str, List[np.ndarray]] = {o.name: [] for o in spec.outputs}
    for start in range(0, count, spec.batch.max):
        size = min(count - start, spec.batch.max)
        batch = golden.batch_of(inputs, max(size, spec.batch.min), start)
        for name, array in engine.run(spec, file, batch, work).items():
            parts[name].append(array[:size])
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _too_weak(spec: Spec, mutant: Mutant) -> SourceError:
    how = (
        f"golden samples with other answers in {spec.source.golden.name}"
        if spec.source.golden is not None
        else f"real inputs with different answers: samples: {{file: X.npy}} under {spec.inputs[0].name}, an "
        f"array [N, {', '.join(map(str, spec.inputs[0].dims))}] as numpy.save writes it"
    )
    return SourceError(
        f"{spec.name}: the golden samples prove too little: with {mutant.name}, the answers would still pass",
        expected="samples to which the model gives answers that differ by more than rounding",
        remedy=f"give {how}",
    )
