"""Picture files as pixels: decoded, turned upright, in the model's colours, resized and cropped.

Resizing and cropping is ImageNet's: the shorter side becomes 256 for a model of 224 (in that
proportion for others), then the centre is cut out. Bilinear with antialiasing, which is Keras's
``load_img(interpolation="bilinear")``. A picture that already has the model's size is taken as it is.

The client sends what this makes of a picture, and the builder evaluates a model on the same.
"""

from __future__ import annotations

import io
import threading
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from models_volume.errors import PictureError

FORMATS = ("JPEG", "PNG", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
# Pillow's own line between large and suspicious (89 million pixels, 256 MiB as RGB), where it warns.
MAX_PIXELS = 1024 * 1024 * 1024 // 4 // 3
MAX_BYTES = 256 << 20
_MARGIN = 256 / 224
# A band or needle whose longer side would be resized beyond this is first cut to twice what is wanted.
_LONGEST = 16384
# Python's filters of warnings belong to the whole process: two threads must not change them at once.
_FILTERS = threading.Lock()


def load(
    source: Path | bytes | np.ndarray,
    height: int,
    width: int,
    channels: int,
    *,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """UINT8 pixels [height, width, channels] of a picture, RGB or (with one channel) grey.

    Args:
        source: a file, a file's content, or pixels: UINT8 [h, w], [h, w, 1], RGB [h, w, 3] or RGBA [h, w, 4].
        max_pixels: that a picture may have; at most MAX_PIXELS.

    Raises:
        PictureError: it is not a JPEG, PNG or WebP picture, is damaged, or is larger than ``max_pixels``; an
            array of another dtype or shape.
    """
    try:
        with _open(source, max_pixels) as image:
            return _pixels(image, height, width, channels)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise PictureError(f"has more than {max_pixels // 10**6} million pixels") from e
    except UnidentifiedImageError as e:
        raise PictureError(f"is not a {', '.join(FORMATS)} picture") from e
    except FileNotFoundError as e:
        raise PictureError("there is no such file") from e
    except PictureError:
        raise
    except Exception as e:
        reason = (e.strerror if isinstance(e, OSError) else None) or str(e) or type(e).__name__
        raise PictureError(f"cannot be read as a picture: {reason}") from e


def _open(source: Path | bytes | np.ndarray, max_pixels: int) -> Image.Image:
    """The picture with its size known and nothing decoded."""
    if isinstance(source, np.ndarray):
        return _from_array(source)
    stream = _stream(source)
    with _FILTERS, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(stream, formats=FORMATS)
    if image.width * image.height > max_pixels:
        raise Image.DecompressionBombError
    return image


def _from_array(pixels: np.ndarray) -> Image.Image:
    if (
        pixels.dtype != np.uint8
        or not pixels.size
        or pixels.ndim < 2
        or pixels.shape[2:] not in ((), (1,), (3,), (4,))
    ):
        raise PictureError(
            f"is an array {pixels.dtype} {list(pixels.shape)}; pixels are uint8 [height, width] or "
            "[height, width, 1, 3 or 4]"
        )
    return Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels)


def _stream(source: Path | bytes) -> io.BytesIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if source.exists() and not source.is_file():
        raise PictureError("is not a file")
    if source.stat().st_size > MAX_BYTES:
        raise PictureError(f"has more than {MAX_BYTES >> 20} MiB")
    return io.BytesIO(source.read_bytes())


def _pixels(image: Image.Image, height: int, width: int, channels: int) -> np.ndarray:
    upright = _coloured(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
    array = np.asarray(_cropped(upright, height, width), np.uint8)
    return array.reshape(height, width, channels)


def _coloured(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 bits; Pillow's own conversion cuts at 255
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)).convert(mode)
    if image.has_transparency_data:
        # What a transparent pixel's colour is, nobody has ever looked at: show it as a page would.
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image if image.mode == mode else image.convert(mode)


def _cropped(image: Image.Image, height: int, width: int) -> Image.Image:
    if image.size == (width, height):
        return image
    scale = max(round(height * _MARGIN) / image.height, round(width * _MARGIN) / image.width)
    if scale * max(image.size) > _LONGEST:
        image = _centre(image, *(int(2 * side / scale) + 1 for side in (width, height)))
    size = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    return _centre(image.resize(size, Image.Resampling.BILINEAR), width, height)


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    width, height = min(width, image.width), min(height, image.height)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
