"""Picture files as pixels, by models_volume.pictures, with its refusals as the client's own errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models_volume import errors
from triton_stack_client.errors import ClientError, PictureError

try:
    from models_volume import pictures
except ImportError as e:
    raise ClientError(
        f"Pillow, which decodes pictures, cannot be imported: {e}",
        remedy="pip install pillow",
    ) from e

SUFFIXES, MAX_BYTES = pictures.SUFFIXES, pictures.MAX_BYTES


def load(
    source: Path | bytes | np.ndarray,
    height: int,
    width: int,
    channels: int,
    *,
    max_pixels: int = pictures.MAX_PIXELS,
) -> np.ndarray:
    """As models_volume.pictures.load; raises the client's PictureError."""
    try:
        return pictures.load(source, height, width, channels, max_pixels=max_pixels)
    except errors.PictureError as e:
        raise PictureError(str(e)) from e
