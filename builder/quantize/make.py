"""A source model into its INT8 model, or the reasons why not: calibrate, search, judge, report."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from builder import hashing, progress
from builder.errors import QuantizationError
from builder.export import golden
from builder.quantize import answers, data, gate, prepare, qdq, ranges, report, sites
from builder.quantize.agreement import best_agrees
from builder.quantize.answers import Arrays
from builder.quantize.data import Samples
from builder.quantize.gate import Check
from builder.quantize.sensitivity import Plan, Search
from builder.spec.model import Spec
from models_volume import comparator, layout
from models_volume import golden as files

# Raise it when the same model and data give another quantized model, or are judged in another way.
QUANTIZER = 3
REFERENCE = "the quantized model's answers under onnxruntime"
_BATCH = 16  # samples that run together: all activations of so many are in memory while calibrating
_NAMED = 5  # layers in an error


@dataclass(frozen=True)
class Quantized:
    """A model in INT8 that met its bounds.

    Attributes:
        source: the model that it was made of.
        onnx: with explicit Q/DQ.
        golden: the source's golden inputs, with this model's own answers.
        report: as data.
        page: as HTML.
    """

    source: Path
    onnx: Path
    golden: Path
    report: dict[str, Any]
    page: str

    @classmethod
    def read(cls, source: Path, folder: Path) -> Quantized:
        """As it was kept, with its report by ``write``."""
        told = json.loads((folder / layout.QUANTIZATION).read_text("utf-8"))
        page = (folder / layout.QUANTIZATION_PAGE).read_text("utf-8")
        return cls(source, folder / layout.ONNX, folder / layout.GOLDEN, told, page)


def key(calibration: str, evaluation: str | None) -> dict[str, Any]:
    """What shapes a quantized model beside source model and spec, with the sha256 of both kinds of data."""
    return {
        "quantizer": QUANTIZER,
        "onnxruntime": metadata.version("onnxruntime"),
        "calibration": calibration,
        "evaluation": evaluation,
    }


def make(
    spec: Spec, onnx_file: Path, golden_file: Path, *, untrained: bool, work: Path, logs: Path
) -> Quantized:
    """Quantize the exported model as the spec says.

    Args:
        untrained: whether its weights are; those are refused.
        work: a new folder of ours: onnxruntime writes beside the models that it reads.
        logs: where the report of a refused model is left.

    Raises:
        QuantizationError: the data is not usable, the model cannot be quantized, or it is not good enough.
        EvaluationError: the spec's evaluation data is not usable.
    """
    asked = spec.quantization
    assert asked is not None
    if untrained:
        raise QuantizationError(
            f"{spec.name}: untrained weights are not quantized: what they answer is noise in any precision",
            expected="trained weights",
            remedy="give trained weights, or rehearse with precision: fp16",
        )
    began = time.monotonic()
    work.mkdir()
    hashed = data.sha256(spec)
    with progress.step(f"{spec.name}: calibration data"):
        calibration, held_out = data.load(spec)
    if data.sha256(spec) != hashed:
        raise QuantizationError(f"{asked.path}: changed during the build", remedy="build again")
    model = prepare.prepare(onnx_file, work, calibration.get(0, 2))
    _several_classes(answers.run(model, calibration.all(), _BATCH))
    plan, made = _search(spec, model, calibration, work)
    with progress.step(f"{spec.name}: INT8 on {len(held_out)} held-out samples"):
        before, after = _answers(model, made, held_out)
    checks = gate.checks(spec, before, after, held_out)
    facts = {
        "source": hashing.of_path(onnx_file),
        "data": {"calibration": hashed},
        "versions": {"quantizer": QUANTIZER, "onnxruntime": metadata.version("onnxruntime")},
        "seconds": round(time.monotonic() - began, 1),
    }
    told = report.data(spec, plan, checks, calibration, held_out, (before, after), facts)
    page = report.page(spec, told, held_out)
    if not told["passed"]:
        write(logs, f"{spec.name}.", told, page)
        raise _refusal(spec, plan, checks, logs / f"{spec.name}.{layout.QUANTIZATION_PAGE}")
    _tell(spec, plan, checks)
    result = work / "quantized.onnx"
    result.write_bytes(made.SerializeToString(deterministic=True))
    file, told["golden"] = _golden(golden_file, made, work)
    return Quantized(onnx_file, result, file, told, page)


def summary(told: dict[str, Any]) -> dict[str, Any]:
    """A report in short, for the manifest."""
    left = [layer["name"] for layer in told["layers"] if layer["left_out"]]
    kept = ("precision", "calibration", "held_out", "checks", "golden", "versions", "source", "seconds")
    return {**{k: told[k] for k in kept}, "layers": len(told["layers"]), "left_out": left}


def write(folder: Path, prefix: str, told: dict[str, Any], page: str) -> None:
    """Both forms of a report into a folder, in files whose names begin with ``prefix``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{prefix}{layout.QUANTIZATION}").write_text(json.dumps(told, indent=2) + "\n", "utf-8")
    (folder / f"{prefix}{layout.QUANTIZATION_PAGE}").write_text(page, "utf-8")


def _several_classes(found: Arrays) -> None:
    """Data of one class leaves the ranges of all others unseen."""
    scores = [a for a in found.values() if a.dtype.kind == "f" and best_agrees(a, a) is not None]
    for array in scores:
        picked = set(array.argmax(axis=1).tolist())
        if len(picked) > 1:
            return
    if scores:
        raise QuantizationError(
            f"the model takes all {len(scores[0])} calibration samples for one class, number "
            f"{int(scores[0][0].argmax())}",
            expected="samples of all that the model will be asked, as real requests are",
            remedy="put samples of other classes into the calibration data",
        )


def _answers(model: onnx.ModelProto, made: onnx.ModelProto, held_out: Samples) -> tuple[Arrays, Arrays]:
    """Both models' answers to all samples, by output name."""
    runners = [answers.Runner(model), answers.Runner(made)]
    parts: list[list[Arrays]] = [[], []]
    for batch in held_out.batches(_BATCH):
        for side, runner in zip(parts, runners):
            side.append(runner.run(batch))
    before, after = ({n: np.concatenate([p[n] for p in side]) for n in side[0]} for side in parts)
    return before, after


def _search(
    spec: Spec, model: onnx.ModelProto, calibration: Samples, work: Path
) -> tuple[Plan, onnx.ModelProto]:
    asked = spec.quantization
    assert asked is not None
    found = sites.find(model)
    weighted = sum(site.weighted for site in found)
    if not weighted:
        raise QuantizationError(
            f"{spec.name}: has no layer that could run in INT8",
            expected=f"{', '.join(sites.WEIGHTED)} with constant FP32 weights",
        )
    tensors = dict.fromkeys(site.tensor for site in found)
    with progress.step(f"{spec.name}: ranges of {len(tensors)} activations on {len(calibration)} samples"):
        measured = ranges.measure(model, tensors, calibration.all(), _BATCH, asked.method, work)
    bounds = asked.bounds
    with progress.step(f"{spec.name}: what each of {weighted} layers costs in INT8"):
        search = Search(model, found, measured, calibration.all(), _BATCH)
        most = int(bounds.max_left_out * weighted)
        plan = search.run(1 - bounds.max_drop, bounds.min_sqnr_db, most)
    return plan, qdq.quantize(model, plan.sites, measured)


def _tell(spec: Spec, plan: Plan, checks: list[Check]) -> None:
    left = [layer for layer in plan.layers if layer.left_out]
    progress.say(f"{spec.name}: INT8 in {len(plan.layers) - len(left)} of {len(plan.layers)} layers")
    for layer in left:
        progress.say(f"{spec.name}: left out of INT8: {layer.name} (alone: {layer.alone})")
    for check in checks:
        progress.say(f"{spec.name}: {check.what}: {check.found}")


def _refusal(spec: Spec, plan: Plan, checks: list[Check], page: Path) -> QuantizationError:
    asked = spec.quantization
    assert asked is not None
    left = [layer for layer in plan.layers if layer.left_out]
    lines = []
    if not plan.enough:
        lines.append(
            f"on calibration data, {len(left)} of {len(plan.layers)} layers left out (int8: max_left_out): "
            f"{plan.chosen}; asked for agreement of at least {1 - asked.bounds.max_drop:.2%} and "
            f"{asked.bounds.min_sqnr_db:g} dB"
        )
    lines += [str(check) for check in checks if not check.passed]
    lines.append(f"everything in INT8, on calibration data: {plan.plain}")
    for layer in plan.layers[:_NAMED]:
        state = "left out" if layer.left_out else "in INT8"
        lines.append(f"layer {layer.name} ({layer.op}, {state}), alone in INT8: {layer.alone}")
    # Nothing speaks against it; there is only too little data to speak for it.
    few = plan.enough and all(check.hint for check in checks if not check.passed)
    remedy = "try another calibration method, more data, a larger max_left_out, or precision: fp16"
    return QuantizationError(
        f"{spec.name}: INT8 is not {'shown to be ' if few else ''}good enough; nothing is published",
        expected="what calibration:, int8: and evaluation: ask for",
        details="\n".join(lines),
        remedy=f"see every layer in {page}; {'hold out more samples' if few else remedy}",
    )


def _golden(source: Path, made: onnx.ModelProto, work: Path) -> tuple[Path, dict[str, Any]]:
    """The source's golden inputs at every point of its free dimensions, and the quantized model's answers.

    Also what quantizing changed in them: see ``Parity.with_int8``.
    """
    given, before = files.load(source)
    runner = answers.Runner(made)
    outputs: Arrays = {}
    for point in ("opt", "min", "max"):
        names = [n for n in given if golden.at(n.split("@")[0], point) == n]
        if names:
            found = runner.run({n.split("@")[0]: given[n] for n in names}, _BATCH)
            outputs.update({golden.at(name, point): array for name, array in found.items()})
    file = work / layout.GOLDEN
    golden.save(file, given, outputs)
    figures = [
        comparator.compare(before[name], array) for name, array in outputs.items() if array.dtype.kind == "f"
    ]
    return file, {
        "samples": len(next(iter(given.values()))),
        "kept": min((f.top1 for f in figures if f.top1 is not None), default=None),
        "changed": max((f.max_abs for f in figures), default=0.0),
    }
