"""Requests byte by byte, as no client library sends them: HTTP/1.1 and HTTP/2 over TLS, and no TLS at all.

An answer is its HTTP status; 0 when the other side closed, reset or ignored what came.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
from collections.abc import Iterable

PATIENCE = 10.0  # seconds for an answer
_DATA, _HEADERS, _RST, _SETTINGS, _GOAWAY, _CONTINUATION = 0, 1, 3, 4, 7, 9
_END_STREAM, _END_HEADERS = 1, 4
_STATUSES = (200, 204, 206, 304, 400, 404, 500)  # HPACK's static table, from 8 on


def connect(port: int, protocol: str) -> ssl.SSLSocket:
    """A TLS connection to this machine that speaks "http/1.1" or "h2"; the certificate is not looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port), PATIENCE))


def http1(port: int, request: bytes, patience: float = PATIENCE) -> int:
    """The status of the first answer to these bytes."""
    with connect(port, "http/1.1") as client:
        return _status(client, request, patience)


def plain(port: int, request: bytes, patience: float = PATIENCE) -> int:
    """The same without TLS."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        return _status(client, request, patience)


def _status(client: socket.socket, request: bytes, patience: float) -> int:
    client.settimeout(patience)
    answer = b""
    with contextlib.suppress(OSError):  # it may close before it has everything
        client.sendall(request)
    with contextlib.suppress(OSError):
        while b"\r\n" not in answer and (more := client.recv(65536)):
            answer += more
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
    return int(found[1]) if found else 0


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def field(name: bytes, value: bytes) -> bytes:
    """A header as HPACK writes it in full."""
    return b"\0" + _length(name) + name + _length(value) + value


def _length(text: bytes) -> bytes:
    count = len(text)
    if count < 127:
        return bytes([count])
    count, out = count - 127, b"\x7f"
    while count >= 128:
        out += bytes([count % 128 | 128])
        count //= 128
    return out + bytes([count])


def request(fields: Iterable[tuple[bytes, bytes]], body: bytes = b"", stream: int = 1) -> bytes:
    """The frames of one request; headers in frames of 16 KiB, as the protocol has them."""
    block = b"".join(field(*f) for f in fields)
    parts = [block[n : n + 16384] for n in range(0, len(block), 16384)] or [b""]
    end = 0 if body else _END_STREAM
    out = b""
    for n, part in enumerate(parts):
        last = _END_HEADERS if n == len(parts) - 1 else 0
        out += frame(_CONTINUATION if n else _HEADERS, last | (0 if n else end), stream, part)
    chunks = [body[n : n + 16384] for n in range(0, len(body), 16384)]
    for n, chunk in enumerate(chunks):
        out += frame(_DATA, _END_STREAM if n == len(chunks) - 1 else 0, stream, chunk)
    return out


def http2(port: int, frames: bytes, patience: float = PATIENCE, stream: int = 1) -> int:
    """The status that the stream gets, after a proper beginning of the connection."""
    with connect(port, "h2") as client:
        client.settimeout(patience)
        with contextlib.suppress(OSError):
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(_SETTINGS, 0, 0) + frames)
        data = b""
        with contextlib.suppress(OSError):
            while more := client.recv(65536):
                data += more
                while len(data) >= 9 and len(data) >= 9 + (size := int.from_bytes(data[:3], "big")):
                    kind, number = data[3], int.from_bytes(data[5:9], "big")
                    payload, data = data[9 : 9 + size], data[9 + size :]
                    if kind == _HEADERS and number == stream:
                        return _h2_status(payload)
                    if kind == _GOAWAY or (kind == _RST and number == stream):
                        return 0
    return 0


def _h2_status(block: bytes) -> int:
    """The first header of an answer, which is its status."""
    while block[0] & 0xE0 == 0x20:  # a change of the table's size
        block = block[1:]
    if block[0] & 0x80:
        return _STATUSES[(block[0] & 0x7F) - 8]
    digits = re.search(rb"^.\x03(\d{3})", block, re.DOTALL)
    assert digits, block[:20]
    return int(digits[1])
