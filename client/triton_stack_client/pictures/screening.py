"""What the first bytes of a picture tell, before any decoder sees it.

Pillow limits what a picture's side data (colour profiles, texts) unpack to, and ``models_volume.pictures``
its pixels. Here is what neither refuses: formats nobody asked for, animations, WebP pictures whose decoder
reserves memory by the header alone, and JPEG pictures of many scans, each a walk over all pixels.
"""

from __future__ import annotations

import struct

from triton_stack_client.pictures.errors import RefusalError

FORMATS = "JPEG, PNG and WebP"
MAX_SCANS = 100  # a progressive JPEG has about ten
_PNG = b"\x89PNG\r\n\x1a\n"
# What people send instead, by its first bytes.
_OTHERS = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "compressed by gzip"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"{", "JSON"),
    (b"<", "XML or HTML"),
    (b"data:", "a data: URL"),
    (b"--", "a form's part"),
    (b"\x89PNG", "a PNG whose line ends were changed on the way"),
)


def screen(content: bytes, max_pixels: int) -> None:
    """Pass a picture on to the decoder; raises RefusalError."""
    if not content:
        raise RefusalError(400, "the body is empty", allowed=f"one {FORMATS} file", remedy=_HOW)
    if content.startswith(b"\xff\xd8\xff"):
        # In the scans themselves 0xff is always followed by 0 or a restart mark.
        scans = content.count(b"\xff\xda")
        if scans > MAX_SCANS:
            raise RefusalError(413, f"the JPEG has {scans} scans", allowed=f"{MAX_SCANS} scans")
    elif content.startswith(_PNG):
        _png(content, max_pixels)
    elif content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        _webp(content, max_pixels)
    else:
        raise RefusalError(415, f"the body is {_named(content)}", allowed=f"a {FORMATS} file", remedy=_HOW)


_HOW = "send the file as it is: curl --data-binary @FILE"


def _named(content: bytes) -> str:
    if content[4:8] == b"ftyp":
        return "HEIC, AVIF or a film"
    return next((name for start, name in _OTHERS if content.startswith(start)), "of an unknown kind")


def _allow(width: int, height: int, max_pixels: int) -> None:
    """Raises RefusalError for a picture of more pixels."""
    if width * height > max_pixels:
        raise RefusalError(
            413,
            f"the picture has {width} x {height} pixels",
            allowed=f"{max_pixels / 1e6:g} million pixels",
            remedy="make it smaller: the model sees a few hundred pixels a side",
        )


def _animated(kind: str) -> RefusalError:
    return RefusalError(
        415, f"the {kind} is animated", allowed="a single picture", remedy="send one frame of it"
    )


def _png(content: bytes, max_pixels: int) -> None:
    if len(content) >= 24:
        width, height = struct.unpack(">II", content[16:24])
        _allow(width, height, max_pixels)
    at = len(_PNG)
    while at + 8 <= len(content) and (kind := content[at + 4 : at + 8]) != b"IDAT":
        if kind == b"acTL":
            raise _animated("PNG")
        at += 12 + int.from_bytes(content[at : at + 4], "big")


def _webp(content: bytes, max_pixels: int) -> None:
    """The size is where the first chunk's kind puts it (RFC 9649)."""
    kind, head = content[12:16], content[20:30]
    if len(head) < 10:
        raise RefusalError(400, "the WebP ends within its header", allowed="a whole file")
    if kind == b"VP8X":
        width, height = (int.from_bytes(head[n : n + 3], "little") + 1 for n in (4, 7))
        if head[0] & 2:
            raise _animated("WebP")
    elif kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 ":
        width, height = (int.from_bytes(head[n : n + 2], "little") & 0x3FFF for n in (6, 8))
    else:
        raise RefusalError(400, "the WebP begins with no picture", allowed="VP8, VP8L or VP8X data")
    _allow(width, height, max_pixels)
