"""What the access log adds up to: latency histograms, refusals, bytes. Bounded, whatever clients send."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Callable, Dict, List, Tuple

from monitoring.exporter.access import Request
from monitoring.exporter.exposition import Family

# Seconds: 1 ms is a small model on a GPU, 10 s is longer than most clients wait.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
MOST_NAMES = 100  # of keys; each one more is "other"
NONE, OTHER = "none", "other"

_Labels = Tuple[str, ...]


class Names:
    """The first ``MOST_NAMES`` names as they are, all later ones as "other": a label must not grow for ever.

    The gateway writes only names of the keys that it knows, yet anybody on this machine can send a datagram.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()

    def of(self, name: str) -> str:
        """The label for a name; "none" for no name."""
        if not name:
            return NONE
        if name not in self._known:
            if len(self._known) >= MOST_NAMES:
                return OTHER
            self._known.add(name)
        return name


class Traffic:
    """The counts since the start; safe to use from several threads.

    Args:
        is_model: whether the models volume has a model of that name; the names in requests are the clients'.
    """

    def __init__(self, is_model: Callable[[str], bool]) -> None:
        self._is_model = is_model
        self._lock = threading.Lock()
        self._keys = Names()
        self._buckets: Dict[_Labels, List[int]] = {}  # by model, key, status; the last one is +Inf
        self._seconds: Counter[_Labels] = Counter()
        self._server_seconds: Counter[_Labels] = Counter()  # by model
        self._bytes_in: Counter[_Labels] = Counter()  # by model, key
        self._bytes_out: Counter[_Labels] = Counter()
        self._refused: Counter[_Labels] = Counter()  # by reason
        self._lines = {"request": 0, "notice": 0, "malformed": 0}

    def add(self, request: Request) -> None:
        """Count a request."""
        model = request.model and (request.model if self._is_model(request.model) else OTHER)
        with self._lock:
            by_key = (model or NONE, self._keys.of(request.key))
            labels = (*by_key, request.status)
            buckets = self._buckets.setdefault(labels, [0] * (len(BUCKETS) + 1))
            buckets[sum(request.seconds > limit for limit in BUCKETS)] += 1
            self._seconds[labels] += request.seconds  # type: ignore[assignment]  # a Counter adds floats, too
            self._server_seconds[by_key[:1]] += request.seconds_server  # type: ignore[assignment]
            self._bytes_in[by_key] += request.bytes_in
            self._bytes_out[by_key] += request.bytes_out
            if request.refused:
                self._refused[(request.refused,)] += 1
            self._lines["request"] += 1

    def other(self, line: bytes) -> None:
        """Count a line that is no request: HAProxy's own words (of a server that is down), or none of its.

        ``line`` begins with a brace where it should have been a request.
        """
        with self._lock:
            self._lines["malformed" if line.startswith(b"{") else "notice"] += 1

    def families(self) -> List[Family]:
        """The counts as metrics."""
        with self._lock:
            return [
                self._histogram(),
                _counter(
                    "triton_stack_server_seconds_total", "Time that servers took behind the gateway.",
                    ("model",), self._server_seconds,
                ),
                _counter(
                    "triton_stack_received_bytes_total", "Bytes of requests.",
                    ("model", "key"), self._bytes_in,
                ),
                _counter(
                    "triton_stack_sent_bytes_total", "Bytes of answers.",
                    ("model", "key"), self._bytes_out,
                ),
                _counter(
                    "triton_stack_refused_requests_total", "Requests that the gateway refused.",
                    ("reason",), self._refused,
                ),
                _counter(
                    "triton_stack_access_lines_total", "Lines of the access log that arrived.",
                    ("result",), {(result,): n for result, n in self._lines.items()},
                ),
            ]  # fmt: skip

    def _histogram(self) -> Family:
        family = Family(
            "triton_stack_request_duration_seconds", "histogram",
            "Time of a request at the gateway, by model, key and class of the status.",
        )  # fmt: skip
        for labels, buckets in sorted(self._buckets.items()):
            named = dict(zip(("model", "key", "status"), labels))
            total = 0
            for limit, count in zip((*map(str, BUCKETS), "+Inf"), buckets):
                total += count
                family.add(total, "_bucket", **named, le=limit)
            family.add(self._seconds[labels], "_sum", **named)
            family.add(total, "_count", **named)
        return family


def _counter(name: str, words: str, keys: Tuple[str, ...], counts: Dict[_Labels, int]) -> Family:
    family = Family(name, "counter", words)
    for labels, count in sorted(counts.items()):
        family.add(count, **dict(zip(keys, labels)))
    return family
