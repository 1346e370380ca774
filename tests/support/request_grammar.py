"""Requests made by a grammar: valid ones for the model ``scale``, and the same with something changed."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

NUMBERS = st.one_of(
    st.integers(-1000, 1000), st.floats(-1000, 1000, width=32).map(lambda x: 0.0 if x == 0 else x)
)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.text(max_size=8), st.floats(),
        st.sampled_from([0, 1, -1, 6, 9, 2**31, 2**32 + 1, 2**40, 2**61, 2**62, 2**64, 10**10, 10**400]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """An inference request over HTTP.

    ``wanted`` are the right scores, flat, for a valid one; None for one that has been changed.
    """

    path: str
    headers: dict[str, str]
    body: bytes
    wanted: list[float] | None


@st.composite
def requests(draw: DrawFn) -> Request:
    """A valid request, or one with one to three changes in its JSON, its bytes or its headers."""
    batch = draw(st.integers(1, 8))
    values = draw(st.lists(NUMBERS, min_size=6 * batch, max_size=6 * batch))
    binary = draw(st.booleans())
    data: Any = values
    if draw(st.booleans()):  # nested as the shape is
        data = [values[n : n + 6] for n in range(0, len(values), 6)]
    given: dict[str, Any] = {"name": "x", "shape": [batch, 6], "datatype": "FP32"}
    if binary:
        given["parameters"] = {"binary_data_size": 24 * batch}
    else:
        given["data"] = data
    document: dict[str, Any] = {"inputs": [given]}
    if draw(st.booleans()):
        document["id"] = draw(st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=8))
    if draw(st.booleans()):
        document["outputs"] = [{"name": "scores", "parameters": {"binary_data": False}}]
    changes = draw(st.integers(0, 3))
    for _ in range(changes):
        _change(draw, document)
    part = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    behind = struct.pack(f"<{len(values)}f", *values) if binary else b""
    headers = {"Inference-Header-Content-Length": str(len(part))} if binary else {}
    if changes and draw(st.integers(0, 3)) == 0:
        part, behind = _damage(draw, part), behind[: draw(st.integers(0, len(behind)))]
    if changes and draw(st.integers(0, 5)) == 0:
        headers["Inference-Header-Content-Length"] = draw(
            st.one_of(st.integers(-5, 400).map(str), st.sampled_from([str(2**64), "1e2", "0x5", "1 ", "+1"]))
        )
    path = "/v2/models/scale" + draw(st.sampled_from(["", "/versions/1"])) + "/infer"
    return Request(path, headers, part + behind, None if changes else [2.0 * v for v in values])


def _change(draw: DrawFn, document: dict[str, Any]) -> None:
    """Change one member somewhere in the document."""
    places: list[Any] = [document]
    for place in places:
        inner = place.values() if isinstance(place, dict) else place
        places += [child for child in inner if isinstance(child, dict | list)]
    place = draw(st.sampled_from(places))
    if isinstance(place, dict):
        keys = ["name", "shape", "datatype", "data", "parameters", "inputs", "outputs", "id",
                "binary_data_size", "shared_memory_region", "classification", "Shape", "shape\0"]  # fmt: skip
        name = draw(st.sampled_from([*place, *keys] if place else keys))
        if draw(st.booleans()) and name in place:
            del place[name]
        else:
            place[name] = draw(ANYTHING)
    elif place and draw(st.booleans()):
        place[draw(st.integers(0, len(place) - 1))] = draw(ANYTHING)
    else:
        place.insert(draw(st.integers(0, len(place))), draw(ANYTHING))


def _damage(draw: DrawFn, part: bytes) -> bytes:
    """Bytes of the JSON part changed, removed or doubled."""
    at = draw(st.integers(0, len(part)))
    to = draw(st.integers(at, min(len(part), at + 10)))
    return (
        part[:at]
        + draw(st.sampled_from([b"", b"\xff", b"\0", b"\\u0073", b'"', b"}", b"[", part[at:to] * 2]))
        + part[to:]
    )
