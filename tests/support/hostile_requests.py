"""Requests that must not get through, or must do no harm where they do; each with what it may get.

They are for a model ``scale`` with x FP32 [N, 6], 1 <= N <= 8, and the single version 1. A status 0 is a
connection that is closed, or never answered.
"""

# ruff: noqa: E501  (one line a case)

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.keys import PREFIX
from support import raw_http

# Marks as long as keys are, so that lengths stay right when a key takes their place.
KEY, GONE = (mark.ljust(len(PREFIX) + 43, b"@") for mark in (b"@VALID", b"@GONE"))
INFER = "/v2/models/scale/infer"
GOOD = {"name": "x", "shape": [1, 6], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}
REFUSED = frozenset({400, 401, 403, 405, 408, 411, 413, 414, 415, 422, 431, 501, 505, 0})
HARMLESS = REFUSED | {200}  # a server may read it either way


@dataclass(frozen=True)
class Case:
    """One request: the bytes of a connection, and the statuses allowed.

    ``kind`` is "http1", "http2" (frames) or "plain" (no TLS).
    """

    name: str
    kind: str
    content: bytes
    statuses: frozenset[int]


def http1(
    method: str, path: str | bytes, body: bytes = b"", *headers: bytes, key: bytes = KEY, length: bool = True
) -> bytes:
    """An ordinary request in all but what it is given."""
    target = path.encode() if isinstance(path, str) else path
    lines = [method.encode() + b" " + target + b" HTTP/1.1", b"Host: x", b"Authorization: Bearer " + key]
    if length and (body or method == "POST"):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, *headers, b"", b""]) + body


def body(text: bytes | object) -> bytes:
    """A body: bytes as they are, anything else as JSON."""
    return text if isinstance(text, bytes) else json.dumps(text).encode()


def one(**changed: object) -> bytes:
    """A request whose input differs from a good one."""
    return body({"inputs": [{k: v for k, v in (GOOD | changed).items() if v is not None}]})


def binary(part: bytes, behind: bytes, *headers: bytes, length: str | None = None) -> bytes:
    """A request with a JSON part and binary data."""
    said = str(len(part)) if length is None else length
    return http1("POST", INFER, part + behind, b"Inference-Header-Content-Length: " + said.encode(), *headers)


def cases() -> Iterator[Case]:
    """All of them but gRPC's."""
    yield from _endpoints()
    yield from _paths()
    yield from _keys()
    yield from _framing()
    yield from _documents()
    yield from _binaries()
    yield from _streams()
    for name, content in (
        ("an HTTP request", http1("GET", "/v2")),
        ("an HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("nothing that is known", bytes(range(256)) * 4),
        ("a TLS record that lies", b"\x16\x03\x01\xff\xff\x01" + bytes(1000)),
    ):
        yield Case(f"plain text: {name}", "plain", content, frozenset({400, 0}))


def _endpoints() -> Iterator[Case]:
    """What Triton answers to anybody, by name."""
    shared = [
        f"/v2/{kind}sharedmemory{rest}"
        for kind in ("system", "cuda")
        for rest in (
            "/status",
            "/region/r/status",
            "/region/r/register",
            "/region/r/unregister",
            "/unregister",
        )
    ]
    names = (
        "/v2/repository/index", "/v2/repository/models/scale/load", "/v2/repository/models/scale/unload",
        "/v2/logging", "/v2/trace/setting", "/v2/models/scale/trace/setting", *shared, "/v2/models/stats",
        "/v2/models/scale/generate", "/v2/models/scale/generate_stream", "/v2/models/nobody/infer",
        "/v2/models/scale/load", "/metrics", "/", "/v2/", "/v2/models", "/v1/models/scale", "/v3",
        "/v2/health", "/v2/health/live/", "/admin", "/stats", "/haproxy?stats", "/;csv", "/.well-known/x",
    )  # fmt: skip
    for path in names:
        for method in ("GET", "POST"):
            content = http1(method, path, b"{}" if method == "POST" else b"")
            yield Case(f"{method} {path}", "http1", content, frozenset({403}))
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "HEAD", "get", "PROPFIND", "X"):
        yield Case(f"{method} of inference", "http1", http1(method, INFER), frozenset({400, 403, 405}))
    yield Case("GET of inference", "http1", http1("GET", INFER), frozenset({403}))
    yield Case("POST of metadata", "http1", http1("POST", "/v2", b"{}"), frozenset({403}))


def _paths() -> Iterator[Case]:
    """The same places, written otherwise."""
    for path in (
        "//v2/models/scale/infer", "/v2//models/scale/infer", f"{INFER}/", f"{INFER}//", "/V2/models/scale/infer",
        "/v2/models/SCALE/infer", "/v2/models/scale/INFER", "/v2/models/%73cale/infer", "/%76%32/repository/index",
        "/v2/models/scale/%69nfer", f"{INFER}%00", f"{INFER}%20", "/v2/models/scale/../scale/infer",
        "/v2/models/../repository/index", "/v2/./models/scale/infer", "/v2/models/..%2f..%2frepository/index",
        "/v2/models/%2e%2e/repository/index", "/v2/models/scale;x=1/infer", "/v2\\models\\scale\\infer",
        "/v2/models/scale%2finfer", "/v2/models//infer", "/v2/models/./infer", "/v2/models/../infer",
        "/v2/models/scale/versions/-1/infer", "/v2/models/scale/versions//infer",
        "/v2/models/scale/versions/99999999999999999999/infer", "/v2/models/scale/versions/1%/infer",
        "/v2/models/scale/versions/0x1/infer", "/v2/models/scale/versions/1/../1/infer", "v2", "", "x",
    ):  # fmt: skip
        content = http1("POST", path, one())
        yield Case(f"path {path}", "http1", content, frozenset({400, 403}))
    for name, raw, statuses in (
        ("absolute, another place", b"http://x/v2/repository/index", {400, 403}),
        ("absolute, other host", b"http://localhost:8000/v2/repository/index", {400, 403}),
        ("absolute, inference", b"https://x/v2/models/scale/infer", HARMLESS),
        ("authority alone", b"x:443", {400, 403}),
        ("star", b"*", {400, 403}),
        ("NUL", b"/v2/models/scale\0/infer", {400}),
        ("high bytes", b"/v2/models/\xff\xfe/infer", {400, 403}),
        ("blank", b"/v2/models/scale /infer", {400}),
        ("tabulator", b"/v2/models/scale\t/infer", {400, 403}),
        ("fragment", b"/v2/models/scale/infer#x", {400, 403}),
        ("600 bytes", b"/" + b"a" * 600, {414}),
        ("40000 bytes", b"/" + b"a" * 40_000, {400, 414, 431}),
        ("query", b"/v2/models/scale/infer?x=/v2/repository/index", {200}),
        ("version 2", b"/v2/models/scale/versions/2/infer", {400, 404}),
        ("version 0", b"/v2/models/scale/versions/0/infer", {400, 403, 404}),
    ):
        yield Case(f"path: {name}", "http1", http1("POST", raw, one()), frozenset(statuses))


def _keys() -> Iterator[Case]:
    for name, key in (
        ("none", b""), ("wrong", b"x" * 40), ("revoked", GONE), ("long", b"k" * 20_000), ("cut", KEY[:-1]),
        ("with more", KEY + b"x"), ("twice", KEY + b" " + KEY), ("quoted", b'"' + KEY + b'"'), ("a list", KEY + b"," + KEY),
    ):  # fmt: skip
        # HAProxy takes a list apart, and its first part is a valid key.
        statuses = {200, 401} if name == "a list" else {401}
        yield Case(f"key: {name}", "http1", http1("POST", INFER, one(), key=key), frozenset(statuses))
    line = b"Authorization: Bearer " + KEY
    plain = http1("POST", INFER, one())
    for name, content, statuses in (
        ("no header", plain.replace(line + b"\r\n", b""), {401}),
        ("Basic", plain.replace(b"Bearer", b"Basic"), {401}),
        ("no scheme", plain.replace(b"Bearer ", b""), {401}),
        ("two headers", plain.replace(line, line + b"\r\n" + line), {401}),
        ("another one first", plain.replace(line, b"Authorization: Bearer x\r\n" + line), {401}),
        ("in the query", http1("POST", b"/v2/models/scale/infer?key=" + KEY, one(), key=b"x"), {401}),
        ("in a cookie", http1("POST", INFER, one(), b"Cookie: key=" + KEY, key=b"x"), {401}),
        ("NUL behind", http1("POST", INFER, one(), key=KEY + b"\0"), {400, 401}),
        ("proxy's", plain.replace(b"Authorization", b"Proxy-Authorization"), {401}),
        ("name with an underline", plain.replace(b"Authorization", b"Authorization_"), {401}),
    ):
        yield Case(f"key: {name}", "http1", content, frozenset(statuses))


def _framing() -> Iterator[Case]:
    """Two readers that see different requests in the same bytes, and sizes without end."""
    good, hidden = one(), b"GET /v2/repository/index HTTP/1.1\r\nHost: x\r\n\r\n"
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(good), good)
    te = b"Transfer-Encoding: chunked"

    def raw(*headers: bytes, rest: bytes = good, path: str = INFER) -> bytes:
        return http1("POST", path, rest, *headers, length=False)

    size = b"Content-Length: %d" % len(good)
    for name, content, statuses in (
        ("length and chunks", raw(size, te, rest=chunked), HARMLESS),
        ("length 0 and chunks", raw(b"Content-Length: 0", te, rest=chunked), HARMLESS),
        ("chunks and a hidden request", raw(size, te, rest=b"0\r\n\r\n" + hidden), REFUSED),
        ("two lengths", raw(size, b"Content-Length: 5"), {400}),
        ("the same length twice", raw(size, size), HARMLESS),
        ("a list of lengths", raw(size + b", 5"), {400}),
        ("length +", raw(b"Content-Length: +%d" % len(good)), {400}),
        ("length -1", raw(b"Content-Length: -1"), {400}),
        ("length in hex", raw(b"Content-Length: 0x10"), {400}),
        ("length 2^64", raw(b"Content-Length: 18446744073709551617"), {400, 413}),
        ("length empty", raw(b"Content-Length:"), REFUSED),
        ("length with a letter", raw(b"Content-Length: 5a"), {400}),
        ("length too short", raw(b"Content-Length: 5") + hidden, {400}),
        ("chunked with an x", raw(b"Transfer-Encoding: xchunked", rest=chunked), REFUSED),
        ("chunked after a tabulator", raw(b"Transfer-Encoding:\tchunked", rest=chunked), HARMLESS),
        ("chunked with a blank before the colon", raw(b"Transfer-Encoding : chunked", rest=chunked), {400}),
        ("chunked twice", raw(te, te, rest=chunked), REFUSED),
        ("chunked, identity", raw(b"Transfer-Encoding: chunked, identity", rest=chunked), REFUSED),
        ("identity, chunked", raw(b"Transfer-Encoding: identity, chunked", rest=chunked), HARMLESS),
        ("gzip, chunked", raw(b"Transfer-Encoding: gzip, chunked", rest=chunked), REFUSED),
        ("chunked on a folded line", raw(b"Transfer-Encoding:\r\n chunked", rest=chunked), HARMLESS),
        ("chunk size with a sign", raw(te, rest=b"+5\r\nhello\r\n0\r\n\r\n"), {400}),
        ("chunk size 2^64", raw(te, rest=b"10000000000000001\r\nx\r\n0\r\n\r\n"), {400}),
        ("chunk size in words", raw(te, rest=b"five\r\nhello\r\n0\r\n\r\n"), {400}),
        ("chunk with an extension", raw(te, rest=b"%x;a=b\r\n%s\r\n0\r\n\r\n" % (len(good), good)), HARMLESS),
        ("chunk longer than said", raw(te, rest=b"1\r\n" + good + b"\r\n0\r\n\r\n"), {400}),
        ("chunks with a trailer", raw(te, rest=chunked[:-2] + b"Authorization: x\r\n\r\n"), HARMLESS),
        # Each of these in front of an ordinary request, which must be answered.
        ("GET, chunks with a trailer", http1("GET", "/v2", b"0\r\nX-T: x\r\n\r\n", te, length=False), {400}),
        ("after trailers", http1("POST", INFER, good), {200}),
        ("chunks of one byte", raw(te, rest=b"".join(b"1\r\n%c\r\n" % c for c in good) + b"0\r\n\r\n"), {411}),
        ("chunks, 2 MB of JSON", raw(te, rest=b"200000\r\n" + b" " * (2 << 20) + b"\r\n0\r\n\r\n"), {400, 411, 413}),
        ("2 MB of JSON", http1("POST", INFER, b" " * (2 << 20)), {400, 413}),
        ("a body for a GET", http1("GET", "/v2", good, size), {400}),
        ("bare line feeds", http1("POST", INFER, good).replace(b"\r\n", b"\n"), HARMLESS),
        ("bare carriage returns", http1("POST", INFER, good).replace(b"\r\n", b"\r"), REFUSED),
        ("carriage return in a value", raw(size, b"X-A: a\rContent-Length: 5"), HARMLESS),
        ("NUL in a value", raw(size, b"X-A: a\0b"), {400}),
        ("NUL in a name", raw(size, b"X\0A: b"), {400}),
        ("no name", raw(size, b": x"), {400}),
        ("no colon", raw(size, b"X-A"), {400}),
        ("a blank in a name", raw(size, b"X A: b"), {400}),
        ("200 headers", raw(size, *[b"X-%d: y" % n for n in range(200)]), {400, 431}),
        ("a header of 64 KiB", raw(size, b"X-A: " + b"a" * 65536), {400, 431}),
        ("a header of 2 MB", raw(size, b"X-A: " + b"a" * (2 << 20)), {400, 431, 0}),
        ("two hosts", raw(size, b"Host: y"), {400}),
        ("HTTP/0.9", b"GET /v2\r\n", REFUSED),
        ("HTTP/1.0", http1("POST", INFER, good).replace(b"HTTP/1.1", b"HTTP/1.0"), HARMLESS),
        ("HTTP/3.7", http1("POST", INFER, good).replace(b"HTTP/1.1", b"HTTP/3.7"), HARMLESS),
        ("no version", http1("POST", INFER, good).replace(b" HTTP/1.1", b"", 1), REFUSED),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED),
        ("upgrade to h2c", raw(size, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"), {200}),
        ("upgrade to websocket", raw(size, b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"), {200, 400}),
        ("expects what is not", raw(size, b"Expect: 200-please"), HARMLESS | {100, 417}),
        ("gRPC over HTTP/1.1", raw(size, b"Content-Type: application/grpc"), {415}),
        ("method override", http1("GET", INFER, b"", b"X-HTTP-Method-Override: POST"), {403}),
        ("rewritten path", http1("GET", "/v2", b"", b"X-Original-URL: /v2/repository/index"), {200}),
        ("connection: authorization", raw(size, b"Connection: close, Authorization"), {200, 401}),
        ("our own header", raw(size, b"X-Gateway-Backend: grpc", b"X-Gateway-Until: 99999999999"), {200}),
        ("an id that breaks lines", raw(size, b'X-Request-Id: a"}{\\n'), {200}),
        *[
            (f"compressed: {coding.decode()}", raw(size, b"Content-Encoding: " + coding), {415})
            for coding in (b"gzip", b"deflate", b"br", b"GZIP", b"identity, gzip", b"x", b"gzip, gzip")
        ],
        ("compressed, on two lines", raw(size, b"Content-Encoding: identity", b"Content-Encoding: gzip"), {415}),
    ):  # fmt: skip
        yield Case(f"framing: {name}", "http1", content, frozenset(statuses))


def bombs() -> dict[str, bytes]:
    """JSON that is not what the model takes: shapes that end servers, and everything beside them."""
    huge = 2**62
    shapes: list[object] = [
        [1, huge], [1, 2**61], [1, 2**40], [2**31, 2**31], [2**32, 2**32 + 1], [1, 10**10], [huge, 6], [2**63, 6],
        [2**64 + 1, 6], [1, 2**64 + 6], [-1, 6], [1, -6], [-1, -6], [0, 6], [9, 6], [1, 0], [1, 5], [1, 6, 1], [6],
        [], [1, [6]], [[1, 6]], "1,6", None, 6, {"0": 1}, [1, "6"], [True, 6], [1, None], [1.5, 6], [1] * 10_000,
    ]  # fmt: skip
    found = {f"shape {str(s)[:40]}": one(shape=s) for s in shapes if s is not None}
    exact = json.dumps(GOOD["data"])

    def raw(text: str) -> bytes:
        return ('{"inputs":[{' + text + "}]}").encode()

    rest = f'"name":"x","datatype":"FP32","data":{exact}'
    for name, text in {
        "shape 1e10": f'"shape":[1,1e10],{rest}',
        "shape 6.0": f'"shape":[1,6.0],{rest}',
        "shape 1E0": f'"shape":[1E0,6],{rest}',
        "shape, escaped key": f'"\\u0073hape":[1,{huge}],{rest}',
        "shape, wholly escaped key": f'"\\u0073\\u0068\\u0061\\u0070\\u0065":[1,{huge}],{rest}',
        "shape twice": f'"shape":[1,6],"shape":[1,{huge}],{rest}',
        "shape twice, once escaped": f'"shape":[1,6],"sh\\u0061pe":[1,{huge}],{rest}',
        "shape twice, bomb first": f'"shape":[1,{huge}],"shape":[1,6],{rest}',
        "shape and Shape": f'"shape":[1,6],"Shape":[1,{huge}],{rest}',
        "shape with leading zeros": f'"shape":[01,6],{rest}',
        "shape with a plus": f'"shape":[+1,6],{rest}',
        "shape in hex": f'"shape":[0x1,6],{rest}',
        "shape with NaN": f'"shape":[NaN,6],{rest}',
        "data NaN": '"shape":[1,6],"name":"x","datatype":"FP32","data":[NaN,1,1,1,1,1]',
        "data Infinity": '"shape":[1,6],"name":"x","datatype":"FP32","data":[Infinity,1,1,1,1,1]',
        "comment": f'"shape":[1,6],/* */{rest}',
        "comma at the end": f'"shape":[1,6],{rest},',
        "single quotes": f"'shape':[1,6],{rest}",
        "NUL key": f'"shape\\u0000":[1,{huge}],"shape":[1,6],{rest}',
        "lone surrogate": f'"shape":[1,6],"\\ud800":1,{rest}',
        "control character": f'"shape":[1,6],"a\x01":1,{rest}',
    }.items():
        found[name] = raw(text)
    deep = "[" * 100_000 + "]" * 100_000
    found |= {
        "data of 5": one(data=[1, 2, 3, 4, 5]),
        "data of 7": one(data=[1, 2, 3, 4, 5, 6, 7]),
        "data empty": one(data=[]),
        "data missing": one(data=None),
        "data words": one(data=["1", "2", "3", "4", "5", "6"]),
        "data booleans": one(data=[True] * 6),
        "data objects": one(data=[{}] * 6),
        "data a string": one(data="123456"),
        "data a number": one(data=1),
        "data 100000 deep": b'{"inputs":[{"name":"x","shape":[1,6],"datatype":"FP32","data":'
        + deep.encode()
        + b"}]}",
        "data 100000 elements": one(data=[0] * 100_000),
        "document 100000 deep": deep.encode(),
        "objects 50000 deep": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "datatype FP64": one(datatype="FP64"),
        "datatype BYTES": one(datatype="BYTES", data=["a"] * 6),
        "datatype empty": one(datatype=""),
        "datatype a number": one(datatype=32),
        "datatype missing": one(datatype=None),
        "datatype of 900 kB": one(datatype="F" * 900_000),
        "name of another": one(name="y"),
        "name missing": one(name=None),
        "name a list": one(name=["x"]),
        "name of 900 kB": one(name="x" * 900_000),
        "input twice": body({"inputs": [GOOD, GOOD]}),
        "no inputs": body({"inputs": []}),
        "inputs missing": body({}),
        "inputs an object": body({"inputs": GOOD}),
        "inputs null": body({"inputs": None}),
        "100000 inputs": body({"inputs": [{}] * 100_000}),
        "inputs twice": b'{"inputs":[' + body(GOOD) + b'],"inputs":[' + one(shape=[1, huge])[11:-1] + b"}",
        "unknown key": body({"inputs": [GOOD], "x": 1}),
        "unknown key of an input": one(x=1),
        "id a number": body({"id": 1, "inputs": [GOOD]}),
        "output unknown": body({"inputs": [GOOD], "outputs": [{"name": "y"}]}),
        "output twice": body({"inputs": [GOOD], "outputs": [{"name": "scores"}] * 2}),
        "outputs a word": body({"inputs": [GOOD], "outputs": "scores"}),
        **{
            f"classification {n}": body(
                {"inputs": [GOOD], "outputs": [{"name": "scores", "parameters": {"classification": n}}]}
            )
            for n in (-1, 0, huge, 2**64, 1.5, "1")
        },
        **{
            f"binary_data_size {n} without binary data": one(data=None, parameters={"binary_data_size": n})
            for n in (24, 0, -24, huge, 2**64, 24.0, "24", None)
        },
        "parameters a list": one(parameters=[]),
        "parameters nested": one(parameters={"a": {"b": 1}}),
        "empty": b"",
        "blanks": b"   ",
        "900 kB of blanks": b" " * 900_000,
        "null": b"null",
        "a list": b"[]",
        "a number": b"1",
        "half": one()[:-5],
        "two documents": one() + one(),
        "more behind": one() + b"x",
        "NUL behind": one() + b"\0",
        "byte order mark": b"\xef\xbb\xbf" + one(),
        "UTF-16": one().decode().encode("utf-16"),
        "no UTF-8": one().replace(b'"x"', b'"\xff"'),
        "overlong UTF-8": one().replace(b'"x"', b'"\xc1\xb8"'),
        "bytes": bytes(range(256)),
    }
    return found


def _documents() -> Iterator[Case]:
    for name, content in bombs().items():
        yield Case(f"JSON: {name}", "http1", http1("POST", INFER, content), frozenset({400, 413}))
    for kind in ("region", "byte_size", "offset"):
        content = http1("POST", INFER, one(data=None, parameters={f"shared_memory_{kind}": "r"}))
        yield Case(f"JSON: shared memory {kind}", "http1", content, frozenset({403}))
    shared = body(
        {"inputs": [GOOD], "outputs": [{"name": "scores", "parameters": {"shared_memory_region": "r"}}]}
    )
    yield Case("JSON: shared memory of an output", "http1", http1("POST", INFER, shared), frozenset({403}))


def _binaries() -> Iterator[Case]:
    part, data = one(data=None, parameters={"binary_data_size": 24}), bytes(24)
    yield Case("binary: as it should be", "http1", binary(part, data), frozenset({200}))
    for said in ("0", "-1", "+5", "5x", "0x10", "1e2", "", " ", "00", "18446744073709551616", "99999999999",
                 "9223372036854775807", str(len(part) + 25), str(len(part) - 1), str(len(part) + 1), "1", "1,1"):  # fmt: skip
        yield Case(f"binary: length {said!r}", "http1", binary(part, data, length=said), frozenset({400}))
    for name, content in (
        ("the length twice", binary(part, data, b"Inference-Header-Content-Length: %d" % len(part))),
        ("too few bytes", binary(part, data[1:])),
        ("too many bytes", binary(part, data + b"x")),
        ("none", binary(part, b"")),
        ("100 MB said", binary(part, data).replace(b"Content-Length: ", b"Content-Length: 9999999", 1)),
        ("data and bytes", binary(one(parameters={"binary_data_size": 24}), data)),
        *[
            (f"size {n}", binary(one(data=None, parameters={"binary_data_size": n}), data))
            for n in (0, 23, 25, -24, 24.0, "24", 2**31, 2**62, 2**64, True)
        ],
        *[
            (f"shape {s}", binary(one(data=None, shape=s, parameters={"binary_data_size": 24}), data))
            for s in ([1, 2**62], [2**31, 2**31], [2, 6], [0, 6], [-1, -6], [6, 1])
        ],
    ):  # fmt: skip
        # A body that is still to come is waited for; the connection then just ends.
        yield Case(f"binary: {name}", "http1", content, frozenset({400, 413, 0}))
    for name, content in bombs().items():
        if content and len(content) < 10_000:
            yield Case(f"binary, JSON: {name}", "http1", binary(content, data), frozenset({400}))
    shared = one(data=None, parameters={"binary_data_size": 24, "shared_memory_region": "r"})
    yield Case("binary: shared memory", "http1", binary(shared, data), frozenset({403}))


def _streams() -> Iterator[Case]:
    """HTTP/2, frame by frame."""
    key = (b"authorization", b"Bearer " + KEY)

    def head(method: bytes = b"POST", path: bytes = INFER.encode()) -> list[tuple[bytes, bytes]]:
        return [(b":method", method), (b":scheme", b"https"), (b":path", path), (b":authority", b"x")]

    def asked(
        *more: tuple[bytes, bytes], content: bytes = one(), fields: list[tuple[bytes, bytes]] | None = None
    ) -> bytes:
        return raw_http.request([*(head() if fields is None else fields), key, *more], content)

    good = one()
    size = (b"content-length", b"%d" % len(good))
    for path in (b"/v2/repository/index", b"/v2/logging", b"/v2/trace/setting", b"/v2/cudasharedmemory/status",
                 b"//v2/models/scale/infer", b"/v2/models/%73cale/infer", b"/v2/models/../repository/index",
                 b"/inference.GRPCInferenceService/RepositoryIndex", b"/metrics"):  # fmt: skip
        yield Case(f"h2 path {path.decode()}", "http2", asked(fields=head(path=path)), frozenset({403}))
    without = [f for f in head() if f[0] != b":path"]
    for name, content, statuses in (
        ("as it should be", asked(size), {200}),
        ("no length", asked(), {411}),
        ("no path", asked(fields=without), REFUSED),
        ("two paths", asked(fields=[*head(), (b":path", b"/v2/repository/index")]), REFUSED),
        ("empty path", asked(fields=head(path=b"")), REFUSED),
        ("path without a slash", asked(fields=head(path=b"v2")), REFUSED),
        ("absolute path", asked(fields=head(path=b"http://x/v2/repository/index")), REFUSED),
        ("path with a line break", asked(fields=head(path=b"/v2 HTTP/1.1\r\nHost: y\r\n\r\nGET /v2/logging")), REFUSED),
        ("path with a blank", asked(fields=head(path=b"/v2/models/scale/infer HTTP/1.1")), REFUSED),
        ("path with a NUL", asked(fields=head(path=b"/v2\0")), REFUSED),
        ("method with a blank", asked(fields=head(method=b"POST /v2/logging HTTP/1.1")), REFUSED),
        ("method in small letters", asked(fields=head(method=b"post")), REFUSED),
        ("CONNECT", asked(fields=[(b":method", b"CONNECT"), (b":authority", b"x:1")], content=b""), REFUSED),
        ("two methods", asked(fields=[(b":method", b"GET"), *head()]), REFUSED),
        ("a header before the method", asked(fields=[(b"x", b"y"), *head()]), REFUSED),
        ("an unknown pseudo-header", asked(fields=[*head(), (b":x", b"y")]), REFUSED),
        ("a status in a request", asked(fields=[*head(), (b":status", b"200")]), REFUSED),
        ("another scheme", asked(fields=[(n, b"ftp" if n == b":scheme" else v) for n, v in head()]), HARMLESS),
        ("an authority with a line break", asked(fields=[*head()[:3], (b":authority", b"x\r\nX: y")]), REFUSED),
        ("another host", asked((b"host", b"y")), HARMLESS),
        ("a name in capitals", asked((b"X-A", b"b")), REFUSED),
        ("a name with a colon", asked((b"x:y", b"b")), REFUSED),
        ("an empty name", asked((b"", b"b")), REFUSED),
        ("a value with a line break", asked((b"x-a", b"b\r\nTransfer-Encoding: chunked")), REFUSED),
        ("a value with a NUL", asked((b"x-a", b"b\0")), REFUSED),
        ("connection", asked((b"connection", b"close")), REFUSED),
        ("transfer-encoding", asked((b"transfer-encoding", b"chunked")), REFUSED),
        ("upgrade", asked((b"upgrade", b"websocket")), REFUSED),
        ("te: gzip", asked((b"te", b"gzip")), HARMLESS),
        ("length too short", asked((b"content-length", b"5")), REFUSED),
        ("length too long", asked((b"content-length", b"9999")), REFUSED),
        ("two lengths", asked(size, (b"content-length", b"5")), REFUSED),
        ("compressed", asked((b"content-encoding", b"gzip")), {415}),
        ("no key", raw_http.request(head(), good), {401}),
        ("revoked key", raw_http.request([*head(), (b"authorization", b"Bearer " + GONE)], good), {401}),
        ("key twice", asked(key), {401}),
        ("300 headers", asked(*[(b"x-%d" % n, b"y") for n in range(300)]), REFUSED),
        ("headers of 100 KiB", asked(*[(b"x-%d" % n, b"y" * 10_000) for n in range(10)]), REFUSED),
        ("1000 empty continuations", raw_http.frame(1, 1, 1) + raw_http.frame(9, 0, 1) * 1000, REFUSED),
        ("data before headers", raw_http.frame(0, 1, 1, good), REFUSED),
        ("an even stream", raw_http.request([*head(), key], good, stream=2), REFUSED),
        ("a frame of 16 MB", b"\xff\xff\xff\0\0\0\0\0\1" + bytes(100_000), REFUSED),
        ("settings of 5 bytes", raw_http.frame(4, 0, 0, bytes(5)), REFUSED),
        ("a window beyond 2^31", raw_http.frame(8, 0, 0, b"\x7f\xff\xff\xff") * 2, REFUSED),
        ("HPACK index 0", raw_http.frame(1, 5, 1, b"\x80"), REFUSED),
        ("HPACK index 2^28", raw_http.frame(1, 5, 1, b"\xff\xff\xff\xff\x7f"), REFUSED),
        ("HPACK length beyond the frame", raw_http.frame(1, 5, 1, b"\0\x7f\xff\xff\x7f"), REFUSED),
        ("a stream of its own dependency", raw_http.frame(2, 0, 1, b"\0\0\0\1\0") + asked(), HARMLESS),
        ("10000 pings", raw_http.frame(6, 0, 0, bytes(8)) * 10_000 + asked(size), HARMLESS),
        ("1000 streams opened and reset", b"".join(
            raw_http.request([*head(), key], good, stream=n) + raw_http.frame(3, 0, n, b"\0\0\0\x08")
            for n in range(3, 2003, 2)), REFUSED),
        *[(f"JSON: {name}", asked((b"content-length", b"%d" % len(content)), content=content), {400, 413}) for name, content in bombs().items()
          if name.startswith("shape") and content],
    ):  # fmt: skip
        yield Case(f"h2 {name}", "http2", content, frozenset(statuses))
