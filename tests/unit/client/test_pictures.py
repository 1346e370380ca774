"""Every kind of picture file becomes the pixels a person sees, or an error that says what is wrong."""

from __future__ import annotations

import io
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.pictures import BLUE, GREEN, RED, bomb, halves, photograph, plain, with_orientation
from triton_stack_client.classify import pictures
from triton_stack_client.errors import PictureError


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def mean(pixels: np.ndarray) -> np.ndarray:
    return pixels.reshape(-1, pixels.shape[-1]).astype(float).mean(0)


def near(pixels: np.ndarray, colour: tuple[int, ...], within: float = 4) -> bool:
    return bool(np.abs(mean(pixels) - colour).max() <= within)


# How each EXIF orientation turns a picture that is stored with red on the left and blue on the right:
# where the red is when it is shown.
@pytest.mark.parametrize(
    ("orientation", "red"),
    [
        (1, "left"),
        (2, "right"),
        (3, "right"),
        (4, "left"),
        (5, "top"),
        (6, "top"),
        (7, "bottom"),
        (8, "bottom"),
    ],
)
def test_exif_orientation_is_followed(orientation: int, red: str) -> None:
    pixels = pictures.load(with_orientation(halves(64, 64, RED, BLUE), orientation), 32, 32, 3)
    half = {"left": np.s_[:, :14], "right": np.s_[:, 18:], "top": np.s_[:14], "bottom": np.s_[18:]}[red]
    other = {"left": np.s_[:, 18:], "right": np.s_[:, :14], "top": np.s_[18:], "bottom": np.s_[:14]}[red]
    assert near(pixels[half], RED, 12)
    assert near(pixels[other], BLUE, 12)


def test_cmyk_is_converted() -> None:
    inks = Image.merge("CMYK", [Image.new("L", (40, 40), v) for v in (0, 255, 255, 0)])
    red = mean(pictures.load(encoded(inks, "JPEG", quality=95), 32, 32, 3))
    assert red[0] > 200
    assert red[1:].max() < 60


def test_a_palette_and_its_transparent_entry() -> None:
    picture = halves(40, 40, GREEN, RED).convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    opaque = pictures.load(encoded(picture), 40, 40, 3)
    assert near(opaque[:, :20], GREEN)
    transparent = encoded(picture, transparency=picture.getpixel((0, 0)))
    shown = pictures.load(transparent, 40, 40, 3)
    assert near(shown[:, :20], (255, 255, 255))
    assert near(shown[:, 20:], RED)


def test_16_bits_are_scaled_and_not_cut() -> None:
    grey = Image.fromarray(np.full((40, 40), 0x8000, np.uint16))
    assert near(pictures.load(encoded(grey), 32, 32, 3), (128, 128, 128), 1)
    assert near(pictures.load(encoded(grey), 32, 32, 1), (128,), 1)
    # Pillow writes no 16-bit RGB: a PNG by hand, one row of four pixels.
    row = b"\0" + struct.pack(">12H", *([0xFFFF, 0x8000, 0] * 4))
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", struct.pack(">IIBBBBB", 4, 1, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row)),
        (b"IEND", b""),
    ):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    assert near(pictures.load(data, 32, 32, 3), (255, 128, 0), 1)


def test_alpha_is_shown_on_white() -> None:
    assert near(pictures.load(encoded(plain(40, 40, (*RED, 255))), 32, 32, 3), RED)
    assert near(pictures.load(encoded(plain(40, 40, (0, 0, 0, 0))), 32, 32, 3), (255, 255, 255))
    assert near(pictures.load(encoded(plain(40, 40, (0, 0, 0, 128))), 32, 32, 3), (127, 127, 127), 1)
    grey = Image.merge("LA", [Image.new("L", (40, 40), 0), Image.new("L", (40, 40), 0)])
    assert near(pictures.load(encoded(grey), 32, 32, 1), (255,))


def test_grey_becomes_three_equal_channels_and_colour_becomes_grey() -> None:
    grey = pictures.load(encoded(Image.new("L", (40, 40), 77)), 32, 32, 3)
    assert near(grey, (77, 77, 77), 0)
    assert near(pictures.load(encoded(plain(40, 40, (255, 255, 255))), 32, 32, 1), (255,), 0)


def test_one_pixel() -> None:
    pixels = pictures.load(encoded(plain(1, 1, BLUE)), 224, 224, 3)
    assert pixels.shape == (224, 224, 3)
    assert near(pixels, BLUE, 0)


@pytest.mark.parametrize("size", [(20000, 1), (1, 20000), (9000, 3)])
def test_a_band_is_not_blown_up(size: tuple[int, int]) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert near(pictures.load(encoded(plain(*size, GREEN)), 224, 224, 3), GREEN, 0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 200_000, f"{grown} KiB more"


def test_48_megapixels_keep_their_centre() -> None:
    big = halves(8000, 6000, RED, GREEN)
    pixels = pictures.load(encoded(big, "JPEG", quality=80), 224, 224, 3)
    assert near(pixels[:, :105], RED, 6)
    assert near(pixels[:, 119:], GREEN, 6)


def test_the_model_s_own_size_is_taken_as_it_is() -> None:
    image = photograph(224, 224)
    np.testing.assert_array_equal(pictures.load(encoded(image), 224, 224, 3), np.asarray(image))


def test_resize_and_centre_crop_are_imagenet_s() -> None:
    image = photograph(640, 480)
    wanted = np.asarray(image.resize((341, 256), Image.Resampling.BILINEAR))[16:240, 58:282]
    np.testing.assert_array_equal(pictures.load(encoded(image), 224, 224, 3), wanted)
    tall = image.transpose(Image.Transpose.ROTATE_90)
    assert pictures.load(encoded(tall), 224, 224, 3).shape == (224, 224, 3)


def refused(source: bytes | Path, words: str) -> None:
    with pytest.raises(PictureError, match=words):
        pictures.load(source, 32, 32, 3)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    whole = encoded(photograph(300, 200), "JPEG")
    refused(whole[: len(whole) // 2], "cannot be read as a picture: image file is truncated")
    png = encoded(photograph(300, 200))
    refused(png[: len(png) // 2], "cannot be read as a picture")
    refused(b"hello\n" * 100, "is not a JPEG, PNG, WEBP picture")
    refused(b"", "is not a JPEG, PNG, WEBP picture")
    refused(encoded(photograph(30, 20), "GIF"), "is not a JPEG, PNG, WEBP picture")
    refused(tmp_path / "none.jpg", "there is no such file")
    refused(tmp_path, "is not a file")


@pytest.mark.parametrize(("width", "height"), [(20000, 20000), (12000, 9000)])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(width: int, height: int) -> None:
    small = bomb(width, height)
    assert len(small) < 5 << 20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(small, "more than 89 million pixels")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
