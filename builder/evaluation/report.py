"""``evaluation.html``: an evaluation for people, in one file that needs nothing else."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import Any, Dict, List

import numpy as np

from builder.evaluation.data import scores_of
from builder.evaluation.metrics import Drop, Share
from builder.evaluation.record import Record

_WORST = 24  # samples shown
_SIDE = 112  # of a sample's picture, in pixels
_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;max-width:1000px;padding:24px;color:#1b1f24;
background:#fff}
table{border-collapse:collapse;margin:8px 0 20px}td,th{border-bottom:1px solid #d9dee3;padding:4px 12px 4px 0;
text-align:left;font-variant-numeric:tabular-nums}td.n,th.n{text-align:right}h1{font-size:22px}h2{font-size:17px}
.soft{color:#59636e}.lost{color:#b3261e}.samples{display:flex;flex-wrap:wrap;gap:14px}figure{margin:0;width:140px}
figure img{width:112px;height:112px;object-fit:contain;image-rendering:pixelated;background:#f6f8fa}
figcaption{font-size:12px;overflow-wrap:anywhere}
@media(prefers-color-scheme:dark){body{color:#e6e9ec;background:#12161b}td,th{border-color:#343b43}
.soft{color:#9aa5b1}.lost{color:#ff7b72}figure img{background:#1a2027}}
"""


def html(found: Record) -> str:
    """The page."""
    asked = found.spec.evaluation
    assert asked is not None
    names = {row["class"]: row["label"] or f"class {row['class']}" for row in found.classes()}
    output_names = _names(found)
    metric = "top-1" if asked.metric == "top1" else "top-5"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(found.spec.name)}: accuracy</title><style>{_STYLE}</style>",
        f"<h1>{escape(found.spec.name)}: {metric} accuracy</h1>",
        f"<p class=soft>{len(found.data.samples)} samples of {len(names)} classes from "
        f"{escape(asked.path.name)} (sha256 {found.data.sha256}). Intervals hold with 95 % confidence.</p>",
        _figures(found),
        _classes(found),
        _worst(found, output_names),
    ]
    return "\n".join([*parts, "</html>", ""])


def _figures(found: Record) -> str:
    rows = [_share("source model (ONNX, FP32)", found.accuracy_before), _share("engine", found.accuracy)]
    if found.same_file:
        rows.append("<tr><td>drop<td class=n>none<td class=soft>the engine is the exported ONNX itself")
    else:
        rows.append(_drop("drop against the source model", found.drop))
    if found.past is not None:
        what = f"drop against release {found.past.version}, live at the time"
        live = found.live_drop
        rows.append(
            f"<tr><td>{what}<td class=n><td class=soft>not compared: {escape(found.past.why_not)}"
            if live is None
            else _drop(what, live)
        )
    return f"<table>{''.join(rows)}</table>"


def _share(what: str, share: Share) -> str:
    return (
        f"<tr><td>{what}<td class=n>{share.value:.2%}<td class=soft>{share.right} of {share.count}; "
        f"{share.low:.2%} to {share.high:.2%}"
    )


def _drop(what: str, drop: Drop) -> str:
    return (
        f"<tr><td>{what}<td class=n>{drop.value * 100:+.2f} points<td class=soft>{drop.lost} lost, "
        f"{drop.gained} gained; {drop.low * 100:+.2f} to {drop.high * 100:+.2f}; McNemar p {drop.p:.3g}"
    )


def _classes(found: Record) -> str:
    """Every class, those that lose most first."""
    rows: List[Dict[str, Any]] = sorted(
        found.classes(), key=lambda r: ((r["after"] - r["before"]) / r["count"], r["after"] / r["count"])
    )
    cells = []
    for row in rows:
        lost = " class=lost" if row["after"] < row["before"] else ""
        cells.append(
            f"<tr{lost}><td class=n>{row['class']}<td>{escape(row['label'])}<td class=n>{row['count']}"
            f"<td class=n>{row['before'] / row['count']:.1%}<td class=n>{row['after'] / row['count']:.1%}"
        )
    head = "<tr><th class=n>class<th>label<th class=n>samples<th class=n>before<th class=n>after"
    return f"<h2>By class</h2><table>{head}{''.join(cells)}</table>"


def worst(found: Record) -> List[int]:
    """Samples to look at, by place: those lost, then the other wrong ones, the clearest mistakes first."""
    lost = found.before.right & ~found.after.right
    order = np.lexsort((found.after.margin, ~lost, found.after.right))
    return [int(place) for place in order[:_WORST] if not found.after.right[place]]


def _worst(found: Record, names: List[str]) -> str:
    places = worst(found)
    if not places:
        return "<h2>Worst samples</h2><p>Every sample is right.</p>"
    figures = []
    for place in places:
        sample = found.data.samples[place]
        source = _picture(found, place)
        image = f'<img alt="" src="{source}">' if source else ""
        lost = "<b class=lost>lost</b> " if found.before.right[place] else ""
        before, after = (names[int(run.first[place])] for run in (found.before, found.after))
        figures.append(
            f"<figure>{image}<figcaption>{lost}{escape(names[sample.label])}<br>before: {escape(before)}<br>"
            f"after: {escape(after)}<br><span class=soft>{escape(sample.name)}</span></figcaption></figure>"
        )
    return f"<h2>Worst samples</h2><div class=samples>{''.join(figures)}</div>"


def _names(found: Record) -> List[str]:
    output = scores_of(found.spec)
    if output.labels is not None:
        return output.labels.read_text("utf-8").splitlines()
    return [f"class {n}" for n in range(output.dims[0])]


def _picture(found: Record, place: int) -> str:
    """A sample as a data URI; empty where it is no picture, or Pillow, which writes it, is not installed."""
    pixels = found.data.picture(place)
    if pixels is None:
        return ""
    try:
        from PIL import Image
    except ImportError:
        return ""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    if max(image.size) > _SIDE:
        image.thumbnail((_SIDE, _SIDE))
    kind = "PNG" if max(pixels.shape[:2]) <= _SIDE else "JPEG"  # small ones are shown larger, pixel by pixel
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
