"""The evaluation gate: is a model accurate enough on labelled data, and do the data suffice to say so?

Each bound is held by the 95 % interval and not by the figure alone: all of an accuracy's must lie above
``min``, all of a drop's below ``max_drop``. Where only the figure is on the right side, nobody knows: that is
refused as well, with how many samples would tell.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

from builder import engine as engines
from builder import hashing, progress
from builder.engine import Engine
from builder.errors import EvaluationError
from builder.evaluation import data, metrics, record, report, runs
from builder.evaluation.metrics import Drop, Share
from builder.evaluation.record import Record
from builder.evaluation.runs import Run
from builder.spec.model import Evaluation, Spec
from models_volume import layout


class Gate:
    """The evaluation of one build: ``before`` the engine is built, and ``after``.

    Args:
        weights: the provenance of the model's weights.

    Raises:
        EvaluationError: the weights are untrained, or the data are not fit for use.
    """

    def __init__(self, spec: Spec, weights: Dict[str, Any]) -> None:
        assert spec.evaluation is not None
        self._spec, self._asked = spec, spec.evaluation
        if weights["untrained"]:
            raise EvaluationError(
                f"{spec.name}: the accuracy of untrained weights says nothing: {weights['description']}",
                expected="trained weights",
                remedy="give the spec weights that are trained, or leave evaluation: out of it",
            )
        self.data = data.load(spec)
        self._run: Optional[Run] = None

    def before(self, onnx: Path, work: Path) -> None:
        """Measure the source model: its ONNX in FP32, by onnxruntime.

        Raises:
            EvaluationError: a sample cannot be used, or the source model itself is below ``min``.
            EngineError: onnxruntime cannot run it.
        """
        count = len(self.data.samples)
        with progress.step(f"{self._spec.name}: the source model on {count} labelled samples"):
            model = engines.create("onnxruntime")
            self._run = runs.measure(self._spec, self.data, lambda x: model.run(self._spec, onnx, x, work))
        accuracy, bound = Share.of(self._run.right), self._asked.minimum
        if bound is not None and accuracy.value < bound:
            raise EvaluationError(
                f"{self._spec.name}: the source model itself has {words(self._asked)} {accuracy}",
                expected=f"at least {bound:.2%} (evaluation.min)",
                remedy="train it further, or check that the data, the order of the labels and the "
                "preprocessing are those it was trained with",
            )

    def after(
        self,
        engine: Engine,
        file: Path,
        onnx: Path,
        work: Path,
        *,
        release: Path,
        live: Optional[Tuple[int, Path]],
        logs: Path,
    ) -> Dict[str, Any]:
        """Measure the engine, write ``evaluation.json`` and its page into the release, and hold the bounds.

        Args:
            live: the live release's number and folder, if there is one.
            logs: where the page of a release that is refused goes, since that release will be gone.

        Returns:
            What the manifest says of it.

        Raises:
            EvaluationError: a bound is not held, or the samples cannot tell; or one is not what it was.
            EngineError: the engine does not run.
        """
        found = self._measure(engine, file, onnx, work, live)
        told = found.as_json()
        (release / layout.EVALUATION).write_text(json.dumps(told) + "\n", "utf-8")
        page = release / layout.EVALUATION_PAGE
        page.write_text(report.html(found), "utf-8")
        progress.say(f"{self._spec.name}: {words(self._asked)} {found.accuracy}")
        if found.past is not None and found.past.why_not:
            version, why = found.past.version, found.past.why_not
            progress.say(f"{self._spec.name}: not compared with release {version}, which is live: {why}")
        problems = list(_problems(found))
        if problems:
            logs.mkdir(exist_ok=True)
            kept = logs / f"{self._spec.name}.{layout.EVALUATION_PAGE}"
            shutil.copyfile(page, kept)
            raise _refusal(self._spec, problems, f"{kept} shows the classes and samples; ")
        return record.summary(told)

    def _measure(
        self, engine: Engine, file: Path, onnx: Path, work: Path, live: Optional[Tuple[int, Path]]
    ) -> Record:
        assert self._run is not None
        sha256 = hashing.of_path(file)
        same = engine.name == "onnxruntime" and sha256 == hashing.of_path(onnx)
        run = self._run
        if not same:
            with progress.step(f"{self._spec.name}: the engine on {len(self.data.samples)} labelled samples"):
                run = runs.measure(self._spec, self.data, lambda x: engine.run(self._spec, file, x, work))
        past = None
        if live is not None:
            past = record.past(*live, self.data.sha256, self._asked.metric, len(self.data.samples))
        return Record(self._spec, self.data, self._run, run, sha256, same, past)


def hold_published(spec: Spec, release: Tuple[int, Path], live: Tuple[int, Path]) -> None:
    """Hold a release that is there already to the live one, as far as both were evaluated on the same data.

    Raises:
        EvaluationError: the accuracy falls by more than ``max_drop``, or the samples cannot tell.
    """
    asked = spec.evaluation
    if asked is None:
        return
    mine = record.past(*release)
    if mine.right is None:
        return
    theirs = record.past(*live, mine.data, asked.metric, len(mine.right))
    if theirs.right is None or theirs.engine == mine.engine:
        return
    problem = _of_drop(f"release {live[0]}, which is live", Drop.of(theirs.right, mine.right), asked.max_drop)
    if problem is not None:
        raise _refusal(spec, [problem], f"./scripts/rollback --to {release[0]} makes it live all the same; ")


def words(asked: Evaluation) -> str:
    """The metric's name for people."""
    return "top-1 accuracy" if asked.metric == "top1" else "top-5 accuracy"


@dataclass(frozen=True)
class _Problem:
    """A bound that is not held: broken, or not shown to be held by so many samples."""

    line: str
    broken: bool


def _problems(found: Record) -> Iterator[_Problem]:
    asked, past, live_drop = found.spec.evaluation, found.past, found.live_drop
    assert asked is not None
    if asked.minimum is not None:
        yield from _one(_of_share(words(asked), found.accuracy, asked.minimum))
    if not found.same_file:
        yield from _one(_of_drop("the source model", found.drop, asked.max_drop))
    if past is not None and live_drop is not None and past.engine != found.engine:
        yield from _one(_of_drop(f"release {past.version}, which is live", live_drop, asked.max_drop))


def _one(problem: Optional[_Problem]) -> Iterator[_Problem]:
    if problem is not None:
        yield problem


def _of_share(what: str, share: Share, bound: float) -> Optional[_Problem]:
    if share.value < bound:
        return _Problem(f"{what} {share} is below {bound:.2%}", broken=True)
    if share.low >= bound:
        return None
    enough = metrics.enough_for_share(share.value, bound)
    return _Problem(f"{what} {share} may be below {bound:.2%}; {_enough(enough)}", broken=False)


def _of_drop(than: str, drop: Drop, bound: float) -> Optional[_Problem]:
    line = f"drop against {than}: {drop}"
    if drop.value > bound:
        return _Problem(f"{line} is more than {bound * 100:g}", broken=True)
    if drop.high <= bound:
        return None
    enough = metrics.enough_for_drop(drop.lost / drop.count, drop.gained / drop.count, bound)
    return _Problem(f"{line} may be more than {bound * 100:g}; {_enough(enough)}", broken=False)


def _enough(count: int) -> str:
    many = f"about {count}" if count else "no number of"
    return f"{many} samples like these would tell"


def _refusal(spec: Spec, problems: List[_Problem], see: str) -> EvaluationError:
    """What is broken comes first; where nothing is, the samples are too few."""
    asked = spec.evaluation
    assert asked is not None
    least = "" if asked.minimum is None else f"{words(asked)} of at least {asked.minimum:.2%}, "
    broken = any(p.broken for p in problems)
    what = "accuracy is outside the spec's bounds" if broken else "the labelled samples are too few to tell"
    return EvaluationError(
        f"{spec.name}: {what}; what is live stays live",
        expected=f"{least}a drop of at most {asked.max_drop * 100:g} points, by the whole 95 % interval",
        details="\n".join(p.line for p in sorted(problems, key=lambda p: not p.broken)),
        remedy=f"{see}if the loss is meant, set evaluation.min or evaluation.max_drop to what will do"
        if broken
        else f"{see}give more samples, or a bound that so many can show",
    )
