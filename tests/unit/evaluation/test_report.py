"""The page of an evaluation: the worst samples as pictures, and nothing that a browser would run."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import yaml
from PIL import Image
from support.pictures import BLUE, COLOURS, GREEN, RED, plain, write_colours

from builder.release import build as pipeline
from builder.release.store import Store


def page(folder: Path, labels: list[str], wrong: int) -> str:
    """Of the colours model on 60 pictures, of which the first ``wrong`` red ones lie with the blue ones."""
    spec = write_colours(folder)
    (folder / "colours.txt").write_text("".join(f"{label}\n" for label in labels))
    for number in range(3):
        (folder / "held-out" / str(number)).mkdir(parents=True)
    for number, colour in enumerate((RED, GREEN, BLUE)):
        for n in range(20):
            shade = tuple(max(0, c - n) for c in colour)
            mistaken = number == 0 and n < wrong
            place = folder / "held-out" / str(2 if mistaken else number)
            plain(200, 150, shade).save(place / f"{COLOURS[number]} {n}.png")
    document = yaml.safe_load(spec.read_text())
    document["evaluation"] = {"folder": "held-out"}
    spec.write_text(yaml.safe_dump(document))
    store = Store(folder / "models")
    pipeline.build(spec, store, "onnxruntime", allow_untrained=False, force=False)
    return (store.folder("colours", 1) / "evaluation.html").read_text("utf-8")


def test_the_worst_samples_are_shown_as_pictures(tmp_path: Path) -> None:
    text = page(tmp_path, list(COLOURS), wrong=3)
    assert "95.00%" in text
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    assert len(pictures) == 3
    for content in pictures:
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))
        assert shown.shape == (32, 32, 3)
        assert np.abs(shown.reshape(-1, 3).mean(0) - RED).max() < 6
    assert "blue<br>before: red<br>after: red" in text
    assert re.search(r"<td>blue<td class=n>23<td class=n>87.0%<td class=n>87.0%", text)


def test_without_mistakes_it_says_so(tmp_path: Path) -> None:
    text = page(tmp_path, list(COLOURS), wrong=0)
    assert "Every sample is right." in text
    assert "<img" not in text


def test_labels_and_names_are_text(tmp_path: Path) -> None:
    text = page(tmp_path, ["<script>alert(1)</script>", "a & b", '"blue"'], wrong=1)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "a &amp; b" in text
