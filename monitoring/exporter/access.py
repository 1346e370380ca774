"""One line of the gateway's access log: a JSON object for each request."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Mapping, Optional

# Why the gateway refused a request, from the status that it answered with, HTTP's and gRPC's: its own words
# name paths and models, which are the clients'.
_REFUSALS = {
    400: "malformed", 411: "malformed", 414: "malformed", 401: "no key", 403: "not allowed",
    404: "not allowed", 408: "too slow", 413: "over a limit", 429: "over a limit", 431: "over a limit",
    415: "compressed",
}  # fmt: skip
_GRPC_REFUSALS = {
    3: "malformed", 16: "no key", 7: "not allowed", 5: "not allowed", 4: "too slow", 8: "over a limit",
    12: "compressed",
}  # fmt: skip
NO_REQUEST = "no request"  # what came was no HTTP, or a TLS handshake that failed

# What a gRPC status says about whose fault it was, in the words of HTTP; the numbers are gRPC's own. All
# others (unknown, deadline exceeded, internal, unavailable, data loss) are the server's.
_CLIENTS_FAULT = {1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 16}


@dataclass(frozen=True)
class Request:
    """A request as the gateway saw it; sizes in bytes, times in seconds.

    Attributes:
        model, key: empty where there was none.
        refused: why the gateway refused it, one of a few words; empty for one that it let through.
        status: "2xx" and so on, of HTTP or translated from gRPC; "none" for one that ended without.
        seconds: from the first byte to the last.
        seconds_server: the server's part of it; 0 for a request that no server saw.
    """

    model: str
    key: str
    status: str
    refused: str
    bytes_in: int
    bytes_out: int
    seconds: float
    seconds_server: float


class LineError(ValueError):
    """A line is none of the gateway's; the message says why."""


def parse(line: bytes) -> Request:
    """The request of a line; raises ValueError, mostly as LineError, for anything else."""
    try:
        data = json.loads(line.decode("utf-8"), parse_constant=_refused)
    except RecursionError:
        raise LineError("nested too deeply") from None
    if not isinstance(data, dict):
        raise LineError("no JSON object")
    status, grpc = _number(data, "status"), data.get("grpc_status")
    return Request(
        model=_text(data, "model"),
        key=_text(data, "key"),
        status=_status(status, grpc),
        refused=_refusal(status, grpc) if _text(data, "reason") else "",
        bytes_in=int(max(0, _number(data, "bytes_in"))),
        bytes_out=int(max(0, _number(data, "bytes_out"))),
        seconds=max(0.0, _number(data, "seconds")),
        # HAProxy's times are -1 where a request did not get that far.
        seconds_server=max(0.0, _number(data, "seconds_server")),
    )


def _status(http: float, grpc: Optional[object]) -> str:
    """A gRPC answer is 200 in HTTP, whatever became of the call."""
    if http == 200 and isinstance(grpc, int) and grpc != 0:
        return "4xx" if grpc in _CLIENTS_FAULT else "5xx"
    return f"{int(http) // 100}xx" if 100 <= http <= 599 else "none"


def _refusal(http: float, grpc: Optional[object]) -> str:
    if http == 200 and isinstance(grpc, int):
        return _GRPC_REFUSALS.get(grpc, "other")
    return _REFUSALS.get(int(http), "other") if http > 0 else NO_REQUEST


def _text(data: Mapping[str, Any], name: str) -> str:
    value = data.get(name) or ""
    if not isinstance(value, str):
        raise LineError(f"{name} is no text")
    value.encode()  # half a pair of surrogates is JSON, and no text: a ValueError
    return value


def _number(data: Mapping[str, Any], name: str) -> float:
    """A finite number; null and a missing one count as 0, except of ``status`` and ``seconds``."""
    value = data.get(name)
    if value is None and name not in ("status", "seconds"):
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LineError(f"{name} is no number")
    try:
        number = float(value)
    except OverflowError:
        raise LineError(f"{name} is too large") from None
    if not math.isfinite(number):
        raise LineError(f"{name} is too large")
    return number


def _refused(word: str) -> None:
    raise LineError(f"{word} is no JSON")
