"""Picture files that are made to do harm, or that are not what they say; each with the status it gets."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from support.pictures import RED, bomb, photograph, plain


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, kind: bytes, data: bytes, *, last: bool = False) -> bytes:
    """A PNG with one more chunk: after its header, or before its end."""
    at = len(png) - 12 if last else 33
    return png[:at] + chunk(kind, data) + png[at:]


def _png_header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)


def _webp(kind: bytes, head: bytes) -> bytes:
    body = b"WEBP" + kind + struct.pack("<I", len(head)) + head
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes ``count`` times."""
    whole = encoded(photograph(640, 480), "JPEG", progressive=True)
    start = whole.rindex(b"\xff\xda")
    return whole[:start] + whole[start:-2] * count + whole[-2:]


def _jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose header claims another size than its data have."""
    whole = bytearray(encoded(plain(64, 64, RED), "JPEG"))
    at = whole.index(b"\xff\xc0")
    whole[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def corpus() -> dict[str, tuple[bytes, set[int]]]:
    """By name: the body, and the statuses that it may get. 200 is for a decoder that shows what there is."""
    png, jpeg = encoded(plain(64, 64, RED), "PNG"), encoded(photograph(200, 200), "JPEG")
    webp = encoded(plain(64, 64, RED), "WEBP")
    frames = [plain(32, 32, (n, n, n)) for n in (0, 128, 255)]
    moving = {"save_all": True, "append_images": frames[1:]}
    unpacks = zlib.compress(bytes(100 << 20), 5)  # 100 MB in 450 kB
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * (64 << 10), zip=True)
    return {
        "empty": (b"", {400}),
        "one byte": (b"\xff", {415}),
        "text": (b"this is not a picture\n", {415}),
        "zeros": (bytes(1000), {415}),
        "json": (b'{"inputs": []}', {415}),
        "svg that reads a file": (b'<svg><image href="file:///etc/passwd"/></svg>', {415}),
        "data url": (b"data:image/png;base64,iVBORw0KGgo=", {415}),
        "gzip of a png": (b"\x1f\x8b\x08\0" + png, {415}),
        "zip": (b"PK\x03\x04" + bytes(100), {415}),
        "pdf": (b"%PDF-1.7\n", {415}),
        "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9999 9999\n", {415}),
        "postscript in a dcs": (b"\xc5\xd0\xd3\xc6" + bytes(100), {415}),
        "heic": (b"\0\0\0\x18ftypheic" + bytes(100), {415}),
        "gif": (encoded(plain(32, 32, RED), "GIF"), {415}),
        "gif, moving": (encoded(frames[0], "GIF", **moving), {415}),
        "bmp": (encoded(plain(32, 32, RED), "BMP"), {415}),
        "tiff": (encoded(plain(32, 32, RED), "TIFF"), {415}),
        "tiff of many pages": (encoded(frames[0], "TIFF", **moving), {415}),
        "icon": (encoded(plain(32, 32, RED), "ICO"), {415}),
        "psd": (b"8BPS\0\x01" + bytes(100), {415}),
        "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100), {415}),
        "line ends changed": (png.replace(b"\r\n", b"\n", 1), {415}),
        "png, signature only": (png[:8], {400}),
        "png, half a header": (png[:20], {400}),
        "png, no data": (png[:33], {400}),
        "png, half": (encoded(photograph(300, 200), "PNG")[:30000], {400}),
        "png, wrong checksum": (png[:29] + b"\0\0\0\0" + png[33:], {400}),
        "png, zero wide": (_png_header(0, 10) + chunk(b"IDAT", b"") + chunk(b"IEND", b""), {400}),
        "png, zero high": (_png_header(10, 0) + chunk(b"IDAT", b"") + chunk(b"IEND", b""), {400}),
        "png, depth 99": (_png_header(8, 8, 99) + chunk(b"IDAT", b"") + chunk(b"IEND", b""), {400}),
        "png, 2^31 a side": (_png_header(2**31 - 1, 2**31 - 1) + chunk(b"IDAT", b""), {413}),
        "png, 2^32 a side": (_png_header(2**32 - 1, 2**32 - 1) + chunk(b"IDAT", b""), {413}),
        "png, one row of 2^31": (_png_header(2**31 - 1, 1) + chunk(b"IDAT", b""), {413}),
        "png, bomb": (bomb(12000, 12000), {413}),
        "png, bomb just below Pillow's line": (bomb(9400, 9400), {413}),
        "png, colour profile bomb": (with_chunk(png, b"iCCP", b"x\0\0" + unpacks), {200, 400}),
        "png, zTXt bomb": (with_chunk(png, b"zTXt", b"x\0\0" + unpacks), {200, 400}),
        "png, iTXt bomb": (with_chunk(png, b"iTXt", b"x\0\x01\0\0\0" + unpacks), {200, 400}),
        "png, zTXt bomb at the end": (with_chunk(png, b"zTXt", b"x\0\0" + unpacks, last=True), {200, 400}),
        "png, long but honest text": (encoded(plain(64, 64, RED), "PNG", pnginfo=text), {200}),
        "png, chunk length 2^31": (png[:33] + b"\x7f\xff\xff\xffzTXt" + png[33:], {400}),
        "png, data bomb": (_png_header(8, 8) + chunk(b"IDAT", unpacks) + chunk(b"IEND", b""), {200, 400}),
        "png, animated": (encoded(frames[0], "PNG", **moving), {415}),
        "png, two headers": (with_chunk(png, b"IHDR", struct.pack(">IIBBBBB", 9**9, 9**9, 8, 2, 0, 0, 0)),
                             {400, 413}),
        "jpeg, signature only": (b"\xff\xd8\xff", {400}),
        "jpeg, half": (jpeg[: len(jpeg) // 2], {400}),
        "jpeg, no end mark": (jpeg[:-2], {200, 400}),
        "jpeg, no tables": (b"\xff\xd8\xff\xda" + bytes(500), {400}),
        "jpeg, 65500 a side": (_jpeg_of(65500, 65500), {413}),
        "jpeg, larger than its data": (_jpeg_of(4000, 4000), {200, 400}),
        "jpeg, zero wide": (_jpeg_of(0, 64), {400}),
        "jpeg, 101 scans": (_scans(101), {413}),
        "jpeg, 20000 scans": (_scans(20000)[: 9 << 20], {413}),
        "jpeg, 64 KiB of comments a hundred times": (
            jpeg[:2] + (b"\xff\xfe\xff\xff" + bytes(65533)) * 100 + jpeg[2:], {200}),
        "jpeg, wild exif": (
            jpeg[:2] + b"\xff\xe1\xff\xffExif\0\0II*\0" + b"\xff" * 65523 + jpeg[2:], {200, 400}),
        "jpeg, wrong colour profile": (
            jpeg[:2] + b"\xff\xe2\0\x14ICC_PROFILE\0\xff\xff\0\0" + jpeg[2:], {200, 400}),
        "jpeg, with a zip behind": (jpeg + b"PK\x03\x04" + bytes(1000), {200}),
        "webp, header only": (webp[:16], {400}),
        "webp, half": (webp[: len(webp) // 2], {400}),
        "webp, no such data": (_webp(b"VP8?", bytes(20)), {400}),
        "webp, animated": (encoded(frames[0], "WEBP", **moving), {415}),
        "webp, 2^24 a side": (_webp(b"VP8X", bytes(4) + b"\xff" * 6), {413}),
        "webp, 16383 a side, lossless": (
            _webp(b"VP8L", b"\x2f" + (0x3FFE | 0x3FFE << 14).to_bytes(4, "little") + bytes(20)), {413}),
        "webp, 16383 a side, lossy": (
            _webp(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + bytes(20)), {413}),
        "noise as png": (png[:41] + np.random.default_rng(1).bytes(5000), {400}),
        "noise as jpeg": (b"\xff\xd8\xff\xe0" + np.random.default_rng(2).bytes(5000), {400, 413}),
        "noise as webp": (webp[:30] + np.random.default_rng(3).bytes(5000), {200, 400, 413}),
    }  # fmt: skip
