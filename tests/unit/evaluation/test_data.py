"""Labelled data as it is read: classes by label, pictures as a client would send them, and refusals."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from support.models import write_scale
from support.pictures import BLUE, GREEN, RED, photograph, plain, write_colours
from triton_stack_client.classify import pictures

from builder.errors import EvaluationError
from builder.evaluation import data
from builder.spec import loader
from builder.spec.model import Spec


def pictures_in(folder: Path, each: int = 3) -> Path:
    """``each`` pictures of a colour in a folder called by it; some in odd cases of name and format."""
    for name, colour in (("Red", RED), ("green", GREEN), ("2", BLUE)):
        (folder / name).mkdir(parents=True)
        for n in range(each):
            plain(40 + n, 50, colour).save(folder / name / f"{n}.{'png' if n % 2 else 'JPG'}")
    return folder


def spec_of(place: Path, **evaluation: object) -> Spec:
    file = write_colours(place)
    document = yaml.safe_load(file.read_text())
    document["evaluation"] = evaluation or {"folder": "held-out"}
    file.write_text(yaml.safe_dump(document))
    return loader.load(file)


def refusal(spec: Spec) -> str:
    with pytest.raises(EvaluationError) as error:
        list(data.load(spec).batches(4))
    return str(error.value)


def test_folders_are_classes_by_label_or_number(tmp_path: Path) -> None:
    pictures_in(tmp_path / "held-out")
    (tmp_path / "held-out" / "green" / ".hidden").write_text("not looked at")
    found = data.load(spec_of(tmp_path))
    assert [s.name for s in found.samples][:4] == ["2/0.JPG", "2/1.png", "2/2.JPG", "Red/0.JPG"]
    assert found.labels.tolist() == [2, 2, 2, 0, 0, 0, 1, 1, 1]
    batches = list(found.batches(4))
    assert [(b.shape, b.dtype) for b in batches] == [
        ((4, 32, 32, 3), np.uint8), ((4, 32, 32, 3), np.uint8), ((1, 32, 32, 3), np.uint8)
    ]  # fmt: skip
    assert np.abs(batches[0][0].reshape(-1, 3).mean(0) - BLUE).max() < 4


@pytest.mark.parametrize("mode", ["", "tf"])
def test_a_picture_becomes_what_the_client_would_send(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "photo.jpg"
    photograph(300, 200).save(file)
    spec = loader.load(write_colours(tmp_path, client_preprocessing=mode))
    tensor = spec.inputs[0]
    mine = data.pixels(tensor, file.read_bytes())
    sent = pictures.load(file, 32, 32, 3)
    if tensor.preprocessing is not None:
        sent = tensor.preprocessing.apply(sent).astype(np.float16)
    assert mine.dtype == sent.dtype
    np.testing.assert_array_equal(mine, sent)


def test_the_hash_is_of_what_is_used(tmp_path: Path) -> None:
    pictures_in(tmp_path / "held-out")
    spec = spec_of(tmp_path)
    first = data.load(spec).sha256
    shutil.copytree(tmp_path / "held-out", tmp_path / "elsewhere" / "held-out")
    assert data.load(spec_of(tmp_path / "elsewhere")).sha256 == first
    (tmp_path / "held-out" / "green" / "0.JPG").rename(tmp_path / "held-out" / "Red" / "moved.JPG")
    assert data.load(spec).sha256 != first


def test_a_limit_takes_evenly_from_the_classes_and_the_same_each_time(tmp_path: Path) -> None:
    pictures_in(tmp_path / "held-out", each=6)
    spec = spec_of(tmp_path, folder="held-out", samples=7)
    found = data.load(spec)
    assert sorted(np.bincount(found.labels).tolist()) == [2, 2, 3]
    assert data.load(spec).samples == found.samples
    (tmp_path / "held-out" / "green" / "9.png").write_bytes(b"one more")
    assert len(data.load(spec).samples) == 7


def test_each_refusal_names_the_file(tmp_path: Path) -> None:
    root = pictures_in(tmp_path / "held-out")
    spec = spec_of(tmp_path)
    (root / "green" / "1.png").write_bytes(b"no picture")
    assert "green/1.png: is not a JPEG, PNG, WEBP picture" in refusal(spec)
    (root / "green" / "1.png").unlink()
    (root / "green" / "notes.txt").write_text("mine")
    assert "notes.txt: is no picture by its name" in refusal(spec)
    (root / "green" / "notes.txt").unlink()
    (root / "purple").mkdir()
    words = refusal(spec)
    assert "1 folders match no class: purple" in words
    assert "a label that one class alone has (red, green, blue, ...), or a class's number (0 to 2)" in words
    (root / "purple").rename(root / "blue")
    assert "blue: holds no picture" in refusal(spec)
    shutil.rmtree(root)
    root.mkdir()
    assert "holds no folder with pictures" in refusal(spec)


def test_a_label_that_two_classes_have_names_neither(tmp_path: Path) -> None:
    pictures_in(tmp_path / "held-out")
    spec = spec_of(tmp_path)
    assert spec.outputs[0].labels is not None
    spec.outputs[0].labels.write_text("red\ngreen\ngreen\n")
    assert "1 folders match no class: green" in refusal(spec)


def test_without_pillow_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --no-setup, packages are whatever the machine has."""
    pictures_in(tmp_path / "held-out")
    spec = spec_of(tmp_path)
    monkeypatch.delattr("models_volume.pictures")
    monkeypatch.setitem(sys.modules, "models_volume.pictures", None)
    assert "Pillow, which reads the labelled pictures, cannot be imported" in refusal(spec)


def test_a_picture_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    root = pictures_in(tmp_path / "held-out")
    found = data.load(spec_of(tmp_path))
    Image.new("RGB", (40, 40)).save(root / "2" / "1.png")
    with pytest.raises(EvaluationError, match=r"2/1.png: changed during the build"):
        list(found.batches(2))


def arrays(folder: Path, **changed: object) -> Spec:
    """A model of six inputs and six scores, and an .npz for it, with these arrays in place of good ones."""
    folder.mkdir(exist_ok=True)
    good = {"inputs": np.zeros((8, 6), np.float32), "labels": np.arange(8) % 6}
    kept = {name: array for name, array in {**good, **changed}.items() if array is not None}
    np.savez(folder / "data.npz", **kept)
    return loader.load(write_scale(folder, evaluation={"npz": "data.npz"}))


def test_arrays_are_taken_as_they_are(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32)
    found = data.load(arrays(tmp_path, inputs=inputs))
    np.testing.assert_array_equal(np.concatenate(list(found.batches(3))), inputs)
    assert found.labels.tolist() == [0, 1, 2, 3, 4, 5, 0, 1]
    assert found.samples[6].name == "row 6"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"labels": None}, "has no array labels; it holds inputs"),
        ({"inputs": np.zeros((8, 5), np.float32)}, r"inputs is float32 \[8, 5\]"),
        ({"inputs": np.zeros((8, 6))}, r"expected: float32 \[N, 6\], N at least 1"),
        ({"inputs": np.zeros((0, 6), np.float32), "labels": np.zeros(0, int)}, r"inputs is float32 \[0, 6\]"),
        ({"labels": np.arange(7)}, r"labels is int64 \[7\]"),
        ({"labels": np.zeros(8)}, r"whole numbers \[8\], one for each of inputs"),
        ({"labels": np.array([0, 1, 2, 6, 3, 4, 5, -1])}, r"labels\[3\] is 6; 2 such labels are no class"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, object], words: str) -> None:
    with pytest.raises(EvaluationError) as error:
        data.load(arrays(tmp_path, **changed))
    assert re.search(words, str(error.value))


def test_a_damaged_file_of_arrays_is_refused(tmp_path: Path) -> None:
    spec = arrays(tmp_path)
    whole = (tmp_path / "data.npz").read_bytes()
    (tmp_path / "data.npz").write_bytes(whole[: len(whole) // 2])
    assert "data.npz: cannot be read" in refusal(spec)
