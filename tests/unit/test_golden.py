"""Golden samples: seeded, lifelike, and refused when they are not the spec's."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder.errors import SourceError
from builder.export import golden
from builder.spec import loader
from builder.spec.model import Spec

MakeSpec = Callable[..., Spec]
PICTURE = {"name": "x", "dtype": "UINT8", "dims": [64, 48, 3]}


@pytest.fixture
def pixels(make_spec: MakeSpec) -> np.ndarray:
    return golden.make_inputs(make_spec(inputs=[PICTURE]))["x"]


def test_the_same_seed_gives_the_same_samples(make_spec: MakeSpec) -> None:
    first, second = (golden.make_inputs(make_spec(inputs=[PICTURE]))["x"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_another_seed_gives_other_samples(make_spec: MakeSpec, pixels: np.ndarray) -> None:
    other = golden.make_inputs(make_spec(inputs=[PICTURE], parity={"seed": 1}))["x"]
    assert (other != pixels).mean() > 0.5


def test_there_are_as_many_samples_as_the_spec_says_in_its_type_and_shape(make_spec: MakeSpec) -> None:
    x = golden.make_inputs(make_spec(inputs=[PICTURE], parity={"samples": 3}))["x"]
    assert (x.dtype, x.shape) == (np.dtype(np.uint8), (3, 64, 48, 3))


def test_every_picture_is_another(pixels: np.ndarray) -> None:
    flat = pixels.reshape(len(pixels), -1)
    assert len(np.unique(flat, axis=0)) == len(flat)


def test_a_picture_uses_the_range_of_a_photograph(pixels: np.ndarray) -> None:
    for picture in pixels:
        assert picture.min() == 0
        assert picture.max() >= 128
        assert picture.std() > 15


def test_neighbouring_pixels_are_alike_as_in_a_photograph(pixels: np.ndarray) -> None:
    shape = (16, 64, 48, 3)
    noise = np.random.default_rng(0).integers(0, 256, shape).astype(np.float64)

    def correlation(p: np.ndarray) -> float:
        return float(np.corrcoef(p[:, :, :-1].ravel(), p[:, :, 1:].ravel())[0, 1])

    assert correlation(pixels.astype(np.float64)) > 0.9
    assert correlation(noise) < 0.1, "what the test would see in white noise"


def test_the_channels_differ(pixels: np.ndarray) -> None:
    assert (pixels[..., 0] != pixels[..., 1]).mean() > 0.5


def test_the_default_model_s_samples_are_prepared_as_its_clients_do() -> None:
    s = loader.load(loader.find("tensorrt_fp16_model"))
    x = golden.make_inputs(s)["input_1"]
    assert x.dtype == np.float16
    assert np.isfinite(x.astype(np.float64)).all()
    # caffe mode: 0..255 less the mean of its channel, blue first
    low = x.astype(np.float64).min(axis=(0, 1, 2))
    np.testing.assert_allclose(low, [-103.939, -116.779, -123.68], atol=1)
    assert x.max() <= 255 - 103


def test_uniform_samples_keep_within_their_bounds(make_spec: MakeSpec) -> None:
    tensor = {"name": "x", "dtype": "INT32", "dims": [50], "samples": {"uniform": [3, 9]}}
    x = golden.make_inputs(make_spec(inputs=[tensor]))["x"]
    assert set(np.unique(x)) == {3, 4, 5, 6, 7, 8}


def test_a_grey_picture_has_one_channel(make_spec: MakeSpec) -> None:
    s = make_spec(inputs=[{"name": "x", "dtype": "FP32", "dims": [8, 8, 1]}])
    assert s.inputs[0].samples.kind == "image"
    assert golden.make_inputs(s)["x"].shape == (16, 8, 8, 1)


def test_a_picture_of_one_pixel_is_made(make_spec: MakeSpec) -> None:
    s = make_spec(inputs=[{"name": "x", "dtype": "FP32", "dims": [1, 1, 1]}])
    assert np.isfinite(golden.make_inputs(s)["x"]).all()


def from_file(make_spec: MakeSpec, folder: Path, array: np.ndarray, **keys: Any) -> Spec:
    np.save(folder / "x.npy", array)
    tensor = {"name": "x", "dtype": "FP32", "dims": [4], "samples": {"file": "x.npy"}}
    return make_spec(inputs=[tensor], **keys)


def test_samples_from_a_file_are_its_first_rows(make_spec: MakeSpec, tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    s = from_file(make_spec, tmp_path, array, parity={"samples": 2})
    np.testing.assert_array_equal(golden.make_inputs(s)["x"], array[:2])


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4)), np.zeros((3, 5), np.float32), np.zeros((0, 4), np.float32), np.float32(1)],
    ids=["type", "shape", "no rows", "scalar"],
)  # fmt: skip
def test_a_samples_file_that_does_not_fit_is_refused(
    make_spec: MakeSpec, tmp_path: Path, array: np.ndarray
) -> None:
    with pytest.raises(SourceError, match=r"x\.npy holds"):
        golden.make_inputs(from_file(make_spec, tmp_path, array))


@pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01", b"PK\x03\x04broken"])
def test_a_samples_file_that_is_no_array_is_refused(
    make_spec: MakeSpec, tmp_path: Path, content: bytes
) -> None:
    s = from_file(make_spec, tmp_path, np.zeros((1, 4), np.float32))
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(SourceError, match=r"x\.npy"):
        golden.make_inputs(s)


def test_a_short_samples_file_shortens_the_other_inputs_too(make_spec: MakeSpec, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 4), np.float32))
    s = make_spec(
        inputs=[
            {"name": "x", "dtype": "FP32", "dims": [4], "samples": {"file": "x.npy"}},
            {"name": "z", "dtype": "FP32", "dims": [4]},
        ]
    )
    assert {k: len(v) for k, v in golden.make_inputs(s).items()} == {"x": 3, "z": 3}


GOOD = {"input.x": np.zeros((2, 4), np.float32), "output.y": np.zeros((2, 3), np.float32)}


def test_what_was_saved_is_loaded(make_spec: MakeSpec, tmp_path: Path) -> None:
    x, y = np.random.rand(5, 4).astype(np.float32), np.random.rand(5, 3).astype(np.float32)
    golden.save(tmp_path / "saved.npz", {"x": x}, {"y": y})
    inputs, outputs = golden.load(tmp_path / "saved.npz", make_spec())
    np.testing.assert_array_equal(inputs["x"], x)
    np.testing.assert_array_equal(outputs["y"], y)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input.x": None}, "has no input.x"),
        ({"output.y": None}, "has no output.y"),
        ({"input.x": np.zeros((2, 4))}, "input.x is float64"),
        ({"input.x": np.zeros((2, 5), np.float32)}, "input.x is float32 [2, 5]"),
        ({"output.y": np.zeros((3, 3), np.float32)}, "one N for all"),
        ({"output.y": np.float32(1)}, "one N for all"),
        ({"output.y": np.full((2, 3), np.nan, np.float32)}, "not finite"),
        ({"input.x": np.full((2, 4), np.inf, np.float32)}, "not finite"),
        ({"input.x": np.zeros((0, 4), np.float32), "output.y": np.zeros((0, 3), np.float32)}, "input.x"),
    ],
    ids=lambda v: v if isinstance(v, str) else ",".join(v),
)
def test_golden_samples_that_are_not_the_spec_s_are_refused(
    make_spec: MakeSpec, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "bad.npz"
    np.savez(path, **{k: v for k, v in {**GOOD, **change}.items() if v is not None})
    with pytest.raises(SourceError) as error:
        golden.load(path, make_spec())
    assert str(path) in str(error.value)
    assert words in str(error.value)


def damaged(path: Path) -> None:
    np.savez(path, **GOOD)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def plain_array(path: Path) -> None:
    with path.open("wb") as f:
        np.save(f, GOOD["input.x"])


def pickled(path: Path) -> None:
    np.savez(path, **{**GOOD, "input.x": np.array([{}], dtype=object)})


def not_arrays(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("input.x.npy", b"no array")


@pytest.mark.parametrize("make", [damaged, plain_array, pickled, not_arrays, Path.touch])
def test_a_file_that_holds_no_golden_samples_is_refused(
    make_spec: MakeSpec, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "bad.npz"
    make(path)
    with pytest.raises(SourceError, match=r"bad\.npz"):
        golden.load(path, make_spec())


def test_a_batch_goes_round_when_there_are_fewer_samples() -> None:
    batch = golden.batch_of({"x": np.arange(3)}, 5, start=2)
    assert batch["x"].tolist() == [2, 0, 1, 2, 0]


def test_pictures_are_picked_for_the_spread_of_their_answers(make_spec: MakeSpec) -> None:
    """A model that takes nearly all of them for one class."""
    s = make_spec(inputs=[PICTURE], parity={"samples": 4})
    inputs = golden.candidates(s)
    assert len(inputs["x"]) == 12
    scores = np.tile(np.array([0.90, 0.05, 0.05], np.float32), (12, 1))
    scores[:, 0] -= np.linspace(0, 0.01, 12, dtype=np.float32)
    scores[5], scores[9] = (0.1, 0.8, 0.1), (0.1, 0.1, 0.8)
    kept, answers = golden.pick(s, inputs, {"y": scores})
    assert sorted(set(answers["y"].argmax(axis=1))) == [0, 1, 2]
    for picture, answer in zip(kept["x"], answers["y"]):
        row = int(np.flatnonzero((inputs["x"] == picture).all(axis=(1, 2, 3)))[0])
        np.testing.assert_array_equal(scores[row], answer)
    again, _ = golden.pick(s, golden.candidates(s), {"y": scores})
    np.testing.assert_array_equal(again["x"], kept["x"])


def test_no_sample_is_picked_twice_even_where_all_answers_are_one(make_spec: MakeSpec) -> None:
    s = make_spec(inputs=[PICTURE], parity={"samples": 4})
    inputs = golden.candidates(s)
    kept, _ = golden.pick(s, inputs, {"y": np.ones((12, 3), np.float32)})
    assert len(np.unique(kept["x"].reshape(4, -1), axis=0)) == 4


def test_an_output_of_large_numbers_does_not_drown_the_others(make_spec: MakeSpec) -> None:
    s = make_spec(inputs=[PICTURE], parity={"samples": 2})
    scores = np.zeros((6, 1), np.float32)
    scores[4] = 0.001
    big = np.full((6, 1), 1e6, np.float32)
    big[1:] += np.linspace(0.1, 0.2, 5, dtype=np.float32)[:, None]
    _, answers = golden.pick(s, golden.candidates(s), {"big": big, "scores": scores})
    assert answers["scores"].max() == np.float32(0.001)


def test_samples_of_a_file_are_taken_as_they_come(make_spec: MakeSpec, tmp_path: Path) -> None:
    s = from_file(make_spec, tmp_path, np.zeros((9, 4), np.float32), parity={"samples": 3})
    inputs = golden.candidates(s)
    kept, _ = golden.pick(s, inputs, {"y": np.arange(3, dtype=np.float32)[:, None]})
    assert len(inputs["x"]) == len(kept["x"]) == 3
