"""What quantization did to a model, as data and as a page: layers, bounds, classes, the worst samples."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import numpy as np

from builder.evaluation import metrics
from builder.evaluation.data import scores_of
from builder.quantize import agreement
from builder.quantize.answers import Arrays
from builder.quantize.data import Samples
from builder.quantize.gate import Check
from builder.quantize.sensitivity import Layer, Plan
from builder.spec.model import Spec

_WORST = 12  # samples on the page
_SIDE = 96  # of a picture on the page, pixels
_STYLE = (
    "body{font:15px system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em .8em;border-bottom:1px solid #ddd;"
    "text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}.bad{color:#a00;font-weight:600}"
    "figure{display:inline-block;margin:.5em;width:11em;vertical-align:top}img{image-rendering:pixelated}"
)


def data(
    spec: Spec,
    plan: Plan,
    checks: list[Check],
    calibration: Samples,
    held_out: Samples,
    answered: tuple[Arrays, Arrays],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """The report as plain data.

    Args:
        answered: the source model's answers to the held-out samples, and the quantized model's.
        facts: more of the top level: versions, times.
    """
    assert spec.quantization is not None
    return {
        "precision": spec.precision,
        "passed": plan.enough and all(c.passed for c in checks),
        "calibration": {
            "samples": len(calibration), "method": spec.quantization.method, "seed": spec.quantization.seed,
        },
        "held_out": {
            "samples": len(held_out),
            "from": "evaluation" if spec.evaluation else "the rest of the calibration data",
        },
        "search": {
            "enough": plan.enough,
            "plain": _figures(plan.plain),
            "chosen": _figures(plan.chosen),
            "max_drop": spec.quantization.bounds.max_drop,
            "seconds": round(plan.seconds, 1),
        },
        "checks": [c.as_json() for c in checks],
        "layers": [_layer(layer) for layer in plan.layers],
        "classes": _classes(spec, held_out, answered),
        "worst": [_sample(spec, held_out, answered, row) for row in _worst(answered)],
        **facts,
    }  # fmt: skip


def _figures(figures: agreement.Figures) -> dict[str, Any]:
    return {"agreement": figures.agreement, "sqnr_db": figures.sqnr_db}


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name, "op": layer.op, "left_out": layer.left_out, "alone": _figures(layer.alone)
    }  # fmt: skip


def _classes(spec: Spec, held_out: Samples, answered: tuple[Arrays, Arrays]) -> list[dict[str, Any]]:
    """Accuracy before and after, class by class; empty without labels."""
    if spec.evaluation is None or held_out.labels is None:
        return []
    output = scores_of(spec)
    names = output.labels.read_text("utf-8").splitlines() if output.labels else []
    before, after = (metrics.right(a[output.name], held_out.labels, spec.evaluation.metric) for a in answered)
    rows = []
    for label in sorted(set(held_out.labels.tolist())):
        mine = held_out.labels == label
        name = names[label] if names else str(label)
        rows.append({"class": name, "samples": int(mine.sum()),
                     "before": float(before[mine].mean()), "after": float(after[mine].mean())})  # fmt: skip
    return rows


def _worst(answered: tuple[Arrays, Arrays]) -> list[int]:
    """The samples whose answers moved farthest, by the largest difference of any element."""
    name = next(iter(answered[0]))
    moved = np.abs(answered[0][name].astype(np.float64) - answered[1][name].astype(np.float64))
    moved = np.nan_to_num(moved, nan=np.inf).reshape(len(moved), -1).max(axis=1)
    return [int(row) for row in np.argsort(-moved, kind="stable")[:_WORST]]


def _sample(spec: Spec, held_out: Samples, answered: tuple[Arrays, Arrays], row: int) -> dict[str, Any]:
    name = next(iter(answered[0]))
    before, after = (side[name][row] for side in answered)
    found: dict[str, Any] = {
        "name": held_out.names[row], "max_abs": float(np.abs(before.astype(float) - after).max())
    }  # fmt: skip
    if before.ndim == 1 and len(before) > 1:
        labels = next((o.labels for o in spec.outputs if o.name == name), None)
        names = labels.read_text("utf-8").splitlines() if labels else []
        for side, scores in (("before", before), ("after", after)):
            best = int(scores.argmax())
            found[side] = {"class": names[best] if names else str(best), "score": float(scores[best])}
    return found


def page(spec: Spec, report: dict[str, Any], held_out: Samples) -> str:
    """The report as an HTML page of its own: nothing is loaded from elsewhere."""
    search, layers = report["search"], report["layers"]
    left = sum(layer["left_out"] for layer in layers)
    parts = [
        f"<!doctype html><meta charset=utf-8><title>{html.escape(spec.name)}: INT8</title>"
        f"<style>{_STYLE}</style><h1>{html.escape(spec.name)}: {spec.precision}</h1>",
        f"<p>{'Passed' if report['passed'] else '<span class=bad>Refused</span>'}. "
        f"{len(layers) - left} of {len(layers)} layers with weights run in INT8, {left} are left out. "
        f"Calibrated by {report['calibration']['method']} on {report['calibration']['samples']} samples, "
        f"judged on {report['held_out']['samples']} others ({report['held_out']['from']}).</p>",
        "<h2>Bounds</h2>",
        _table(
            ["measured on held-out samples", "found", "asked for", ""],
            [[c["what"], c["found"], c["bound"], "" if c["passed"] else "not met"] for c in report["checks"]],
        ),
        "<h2>Layers</h2><p>Each is measured alone in INT8 on calibration samples, with all else in FP32. The "
        f"worst are left out, until at most {search['max_drop']:.2%} of the samples change their best class. "
        f"All in INT8: {_words(search['plain'])}. As chosen: {_words(search['chosen'])}.</p>",
        _table(
            ["layer", "operation", "alone: SQNR, dB", "alone: agreement", ""],
            [
                [r["name"], r["op"], f"{r['alone']['sqnr_db']:.1f}", _share(r["alone"]["agreement"]),
                 "left out" if r["left_out"] else ""]
                for r in layers
            ],
        ),
    ]  # fmt: skip
    if report["classes"]:
        rows = [
            [c["class"], str(c["samples"]), f"{c['before']:.2%}", f"{c['after']:.2%}"]
            for c in report["classes"]
        ]
        parts += ["<h2>Classes</h2>", _table(["class", "samples", "before", "after"], rows)]
    parts.append("<h2>Samples that moved most</h2>")
    parts += [_figure(sample, held_out) for sample in report["worst"]]
    return "\n".join(parts) + "\n"


def _words(figures: dict[str, Any]) -> str:
    return str(agreement.Figures(figures["agreement"], figures["sqnr_db"]))


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    cells = "".join(f"<th>{html.escape(cell)}" for cell in head)
    lines = ["<tr>" + "".join(f"<td>{html.escape(cell)}" for cell in row) for row in rows]
    return f"<table><tr>{cells}\n" + "\n".join(lines) + "</table>"


def _figure(sample: dict[str, Any], held_out: Samples) -> str:
    words = f"{sample['name']}: moved {sample['max_abs']:.3g}"
    if "before" in sample:
        before, after = (f"{sample[k]['class']} {sample[k]['score']:.3f}" for k in ("before", "after"))
        words += f"; {before} → {after}"
    picture = _picture(held_out, held_out.names.index(sample["name"]))
    return f"<figure>{picture}<figcaption>{html.escape(words)}</figcaption></figure>"


def _picture(held_out: Samples, row: int) -> str:
    """The sample as a picture, where it is one of plain pixels."""
    (array, *others) = held_out.get(row, row + 1).values()
    if others or array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] not in (1, 3):
        return ""
    from PIL import Image

    pixels = array[0]
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    content = base64.b64encode(stream.getvalue()).decode()
    return f'<img width={_SIDE} alt="" src="data:image/png;base64,{content}">'
