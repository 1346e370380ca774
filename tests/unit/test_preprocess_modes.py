"""The preprocessing modes against keras.applications.imagenet_utils' formulas, written out by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from builder.release.manifest import contract
from builder.spec import loader
from models_volume.preprocessing import MODES

# One pixel: red 10, green 20, blue 30.
PIXEL = np.array([[10.0, 20.0, 30.0]], np.float32)
BY_HAND: dict[str, Callable[[float, float, float], list[float]]] = {
    "caffe": lambda r, g, b: [b - 103.939, g - 116.779, r - 123.68],
    "torch": lambda r, g, b: [
        (r / 255 - 0.485) / 0.229,
        (g / 255 - 0.456) / 0.224,
        (b / 255 - 0.406) / 0.225,
    ],
    "tf": lambda r, g, b: [r / 127.5 - 1, g / 127.5 - 1, b / 127.5 - 1],
    "lite": lambda r, g, b: [(r - 127) / 128, (g - 127) / 128, (b - 127) / 128],
    "unit": lambda r, g, b: [r / 255, g / 255, b / 255],
}


def test_every_mode_is_checked_here() -> None:
    assert set(MODES) == set(BY_HAND)


@pytest.mark.parametrize("mode", BY_HAND)
def test_a_pixel_becomes_what_the_formula_says(mode: str) -> None:
    np.testing.assert_allclose(MODES[mode].apply(PIXEL)[0], BY_HAND[mode](10, 20, 30), rtol=1e-5)


@pytest.mark.parametrize("mode", BY_HAND)
def test_a_batch_of_pictures_is_prepared_pixel_by_pixel(mode: str) -> None:
    pictures = np.random.default_rng(0).uniform(0, 255, (2, 4, 5, 3)).astype(np.float32)
    prepared = MODES[mode].apply(pictures)
    assert prepared.shape == pictures.shape
    np.testing.assert_allclose(
        prepared[1, 2, 3], BY_HAND[mode](*map(float, pictures[1, 2, 3])), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("mode", BY_HAND)
def test_what_is_given_is_left_as_it_was(mode: str) -> None:
    before = PIXEL.copy()
    MODES[mode].apply(PIXEL)
    np.testing.assert_array_equal(PIXEL, before)


def test_the_unit_mode_takes_any_number_of_channels() -> None:
    np.testing.assert_allclose(MODES["unit"].apply(np.full((2, 1), 51.0)), 0.2)


@pytest.mark.parametrize("mode", BY_HAND)
def test_the_numbers_in_the_manifest_suffice_to_prepare_a_pixel(mode: str) -> None:
    told = MODES[mode].as_json()
    pixel = PIXEL[..., ::-1] if told["channel_order"] == "BGR" else PIXEL
    by_numbers = (pixel * told["scale"] - told["mean"]) / told["std"]
    np.testing.assert_allclose(by_numbers, MODES[mode].apply(PIXEL), rtol=1e-5)


def test_the_contract_tells_only_what_is_left_to_the_client() -> None:
    default, in_graph = (
        contract(loader.load(loader.find(m)))["inputs"][0] for m in ("tensorrt_fp16_model", "resnet50")
    )
    assert default["preprocessing"]["mode"] == "caffe"
    assert in_graph["preprocessing"] is None
