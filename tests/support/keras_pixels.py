"""Run in the builder's environment: what Keras itself makes of picture files for each preprocessing mode.

    keras_pixels.py OUT.npz HEIGHT WIDTH FILE...

Writes <mode>/<file name> float32 [HEIGHT, WIDTH, 3], and pixels/<file name> before preprocessing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np


def resized(file: str, whole: Any, height: int, width: int) -> np.ndarray:
    """The shorter side to 256 for 224, then the centre: [1, height, width, 3]."""
    scale = max(round(height * 256 / 224) / whole.height, round(width * 256 / 224) / whole.width)
    size = (round(whole.height * scale), round(whole.width * scale))
    image = keras.utils.load_img(file, target_size=size, interpolation="bilinear")
    return np.asarray(keras.layers.CenterCrop(height, width)(keras.utils.img_to_array(image)[None]))


def main(out: str, height: int, width: int, files: list[str]) -> None:
    arrays = {}
    for file in files:
        whole = keras.utils.load_img(file)
        if whole.size == (width, height):
            cropped = keras.utils.img_to_array(whole)[None]
        else:
            cropped = resized(file, whole, height, width)
        pixels = np.asarray(cropped, np.float32)[0]
        name = Path(file).name
        arrays[f"pixels/{name}"] = pixels
        for mode in ("caffe", "torch", "tf"):
            arrays[f"{mode}/{name}"] = keras.applications.imagenet_utils.preprocess_input(
                pixels.copy(), mode=mode
            )
    np.savez(out, **arrays)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
