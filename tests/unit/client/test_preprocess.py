"""The client's preprocessing is the builder's, number for number, from what the manifest holds."""

from __future__ import annotations

import numpy as np
import pytest

from models_volume.preprocessing import MODES, Preprocessing


@pytest.mark.parametrize("mode", sorted(MODES))
def test_it_does_what_the_graph_would(mode: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    wanted = MODES[mode].apply(pixels.astype(np.float64))
    made = Preprocessing.of(MODES[mode].as_json()).apply(pixels)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, wanted, atol=1e-4)


def test_one_channel() -> None:
    pixels = np.full((4, 4, 1), 255, np.uint8)
    np.testing.assert_allclose(Preprocessing.of(MODES["unit"].as_json()).apply(pixels), np.ones((4, 4, 1)))


def test_a_strange_channel_order_is_refused() -> None:
    with pytest.raises(ValueError, match="GRB is none of RGB, BGR"):
        Preprocessing.of({**MODES["tf"].as_json(), "channel_order": "GRB"})
