"""Picture files of every kind that people have, and a model whose right answers are known by arithmetic."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from PIL import Image

from support.models import write_model

RED, GREEN, BLUE = (200, 40, 30), (30, 190, 60), (20, 50, 210)
COLOURS = ("red", "green", "blue")
_ORIENTATION = 0x0112


def halves(width: int, height: int, left: tuple[int, ...], right: tuple[int, ...]) -> Image.Image:
    """A picture whose left half is one colour and whose right half another."""
    pixels = np.empty((height, width, len(left)), np.uint8)
    pixels[:, : width // 2], pixels[:, width // 2 :] = left, right
    return Image.fromarray(pixels)


def plain(width: int, height: int, colour: tuple[int, ...]) -> Image.Image:
    """A picture of one colour."""
    return halves(width, height, colour, colour)


def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Something with a photograph's detail."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float64)
    return Image.fromarray((smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8))


def write_strange(folder: Path) -> dict[str, str]:
    """One file of each strange kind; by name, the colour each shows, or the words of its error."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted: dict[str, str] = {}

    def save(name: str, image: Image.Image, shows: str, **options: object) -> None:
        image.save(folder / name, **options)
        wanted[name] = shows

    save("plain.jpg", plain(300, 200, RED), "red", quality=95)
    save("plain.png", plain(300, 200, GREEN), "green")
    save("plain.webp", plain(300, 200, BLUE), "blue", lossless=True)
    cmyk = Image.merge(
        "CMYK", [Image.new("L", (90, 60), v) for v in (255, 255, 0, 0)]
    )  # cyan and magenta ink
    save("cmyk.jpg", cmyk, "blue", quality=95)
    save("palette.png", plain(80, 80, GREEN).convert("P", palette=Image.Palette.ADAPTIVE), "green")
    alpha = plain(80, 80, (*RED, 255))
    save("alpha.png", alpha, "red")
    save("one_pixel.png", plain(1, 1, BLUE), "blue")
    save("band.png", plain(5000, 1, GREEN), "green")
    save("huge.jpg", plain(8000, 6000, RED), "red")
    save("damaged.jpg", photograph(300, 200), "cannot be read as a picture")
    whole = (folder / "damaged.jpg").read_bytes()
    (folder / "damaged.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("this is not a picture\n")
    wanted["text.jpg"] = "is not a JPEG, PNG, WEBP picture"
    (folder / "empty.png").write_bytes(b"")
    wanted["empty.png"] = "is not a JPEG, PNG, WEBP picture"
    (folder / "bomb.png").write_bytes(bomb(20000, 20000))
    wanted["bomb.png"] = "million pixels"
    return wanted


def with_orientation(image: Image.Image, orientation: int) -> bytes:
    """A JPEG whose EXIF says how to turn it (1 to 8)."""
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of some kilobytes that unpacks to ``width * height`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def write_colours(
    folder: Path,
    *,
    name: str = "colours",
    side: int = 32,
    client_preprocessing: str = "",
    dtype: str = "UINT8",
    names: tuple[str, str] = ("pixels", "scores"),
) -> Path:
    """A spec whose model scores red, green and blue by their mean over [side, side, 3] pixels.

    ``names`` are those of its input and its output.

    With ``client_preprocessing`` (a mode of the spec) the input is FP16 and the scores are those of
    what the client made of the pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "colours.txt").write_text("".join(f"{c}\n" for c in COLOURS))
    kind = "FP16" if client_preprocessing else dtype
    onnx_type, numpy_type = {
        "UINT8": (TensorProto.UINT8, np.uint8),
        "FP16": (TensorProto.FLOAT16, np.float16),
    }[kind]
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [names[0]], ["f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["f"], [names[1]], axes=[1, 2], keepdims=0),
        ],
        name,
        [helper.make_tensor_value_info(names[0], onnx_type, ["N", side, side, 3])],
        [helper.make_tensor_value_info(names[1], TensorProto.FLOAT, ["N", 3])],
    )
    pixels = np.random.default_rng(3).integers(0, 200, (4, side, side, 3)).astype(numpy_type)
    entry: dict[str, object] = {"name": names[0], "dtype": kind, "dims": [side, side, 3]}
    if client_preprocessing:
        entry["preprocessing"] = {"mode": client_preprocessing, "where": "client"}
    spec = {
        "inputs": [entry],
        "outputs": [{"name": names[1], "dtype": "FP32", "dims": [3], "labels": "colours.txt"}],
        "batch": {"max": 16},
        "precision": "fp32",
        "parity": {"max_abs": 0.01},
    }
    scores = pixels.astype(np.float32).mean(axis=(1, 2))
    return write_model(folder, name, graph, {names[0]: pixels}, {names[1]: scores}, spec, "")
