"""Counters and histograms of the picture service, as Prometheus reads them.

``prometheus_client`` is not among the client's packages; what is needed of it is this file.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "triton_stack_pictures"
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TIMES = {
    "queue": "from a picture's last byte until its decoding began",
    "decode": "to decode, resize and prepare a picture",
    "infer": "until Triton answered, sending again included",
}


class Metrics:
    """What has happened so far; used by one thread.

    Attributes:
        in_flight: pictures in memory now.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self._requests: dict[tuple[str, int], int] = defaultdict(int)
        self._times = {stage: _Histogram() for stage in _TIMES}

    def request(self, model: str, status: int) -> None:
        """Count a request; ``model`` is empty where the server knows none of that name."""
        self._requests[model, status] += 1

    def time(self, stage: str, seconds: float) -> None:
        """Count a time of one of the stages queue, decode and infer."""
        self._times[stage].add(seconds)

    def text(self) -> str:
        """All of it in Prometheus's text format."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        yield f"# HELP {_PREFIX}_requests_total Requests by model and HTTP status."
        yield f"# TYPE {_PREFIX}_requests_total counter"
        for (model, status), count in sorted(self._requests.items()):
            yield f'{_PREFIX}_requests_total{{model="{model}",status="{status}"}} {count}'
        yield f"# HELP {_PREFIX}_in_flight Pictures in memory."
        yield f"# TYPE {_PREFIX}_in_flight gauge"
        yield f"{_PREFIX}_in_flight {self.in_flight}"
        for stage, words in _TIMES.items():
            name = f"{_PREFIX}_{stage}_seconds"
            yield f"# HELP {name} Seconds {words}."
            yield f"# TYPE {name} histogram"
            yield from self._times[stage].lines(name)


class _Histogram:
    def __init__(self) -> None:
        self._counts = [0] * (len(_BUCKETS) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        self._counts[bisect_left(_BUCKETS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str) -> Iterator[str]:
        total = 0
        for bound, count in zip((*map(str, _BUCKETS), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum:.6f}"
        yield f"{name}_count {total}"
