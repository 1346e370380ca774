"""Served against local, one request at a time: the same model, threads and inputs, in one run.

Rounds of direct onnxruntime, gRPC and HTTP requests take turns, so that a machine that is busy for a
while is busy for all of them. The first request of a turn is not counted: whoever ran before has taken
the processor's caches, and that is an artefact of taking turns.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from triton_stack_client import Model
from triton_stack_client.bench.baseline import Trtexec
from triton_stack_client.bench.baseline_process import BaselineProcess
from triton_stack_client.transport.protocol import Arrays
from triton_stack_client.verify.release import Release

_ROUND = 10  # requests of one way before the next has its turn
_WARM = 5
_NAMES = {"system": "shm", "cuda": "cuda", "auto": "auto"}  # of shared memory, behind a protocol's name
_TRTEXEC_SECONDS = 1.0
_TRTEXEC_TURNS = 5


@dataclass(frozen=True)
class Latency:
    """One way's latencies in milliseconds; ``ratio``: the median of its turns' medians over the direct one's.

    By turns, because a machine that others use too changes its speed by more than what is measured.
    """

    way: str
    requests: int
    p50: float
    p95: float
    p99: float
    ratio: float


def measure(
    release: Release,
    local: BaselineProcess,
    urls: dict[str, str],
    *,
    requests: int,
    batch: int,
    shared_memory: str,
) -> list[Latency]:
    """Measure ``requests`` requests of ``batch`` samples for each way, direct first.

    Args:
        urls: of each protocol, by its name.

    Raises:
        ClientError: the server or the baseline does not answer.
    """
    feed = _feed(release, batch)
    models = _models(release, urls, shared_memory)

    def served(model: Model, count: int) -> list[float]:
        return _timed(model, feed, count)

    turns: dict[str, list[list[float]]] = {"onnxruntime": [], **{way: [] for way in models}}
    try:
        local.run(batch, _WARM)
        for model in models.values():
            served(model, _WARM)
        for start in range(0, requests, _ROUND):
            count = min(_ROUND, requests - start)
            turns["onnxruntime"].append(local.run(batch, 1 + count)[1:])
            for way, model in models.items():
                turns[way].append(served(model, count))
    finally:
        for model in models.values():
            model.close()
    return [figures(way, turns[way], turns["onnxruntime"]) for way in turns]


def after(
    release: Release,
    baseline: Trtexec,
    urls: dict[str, str],
    *,
    requests: int,
    batch: int,
    shared_memory: str,
) -> list[Latency]:
    """The same beside trtexec, in a few turns: each of its starts takes seconds.

    Raises:
        ClientError: the server does not answer, or trtexec fails.
    """
    feed = _feed(release, batch)
    models = _models(release, urls, shared_memory)
    own: list[float] = []
    turns: dict[str, list[list[float]]] = {way: [] for way in models}
    try:
        for model in models.values():
            _timed(model, feed, _WARM)
        size = -(-requests // _TRTEXEC_TURNS)
        for start in range(0, requests, size):
            own.append(baseline.turn(batch, _TRTEXEC_SECONDS).p50)
            for way, model in models.items():
                turns[way].append(_timed(model, feed, min(size, requests - start)))
    finally:
        for model in models.values():
            model.close()
    local = baseline.figure(batch)
    count = round(len(own) * local.images_per_s * _TRTEXEC_SECONDS / batch)
    direct = [[p50 / 1e3] for p50 in own]
    rows = [Latency("trtexec", count, local.p50, local.p95, local.p99, 1.0)]
    return rows + [figures(way, turns[way], direct) for way in turns]


def _feed(release: Release, batch: int) -> Arrays:
    """``batch`` golden samples."""
    inputs, _ = release.golden()
    rows = np.arange(batch) % len(next(iter(inputs.values())))
    return {name: np.ascontiguousarray(array[rows]) for name, array in inputs.items()}


def _models(release: Release, urls: dict[str, str], shared_memory: str) -> dict[str, Model]:
    """A model for each protocol, and another for each that uses shared memory."""
    kinds = {"": "off"} | ({} if shared_memory == "off" else {f"+{_NAMES[shared_memory]}": shared_memory})
    return {
        way + mark: Model(release.model, url=url, version=release.version, shared_memory=kind)
        for mark, kind in kinds.items()
        for way, url in urls.items()
    }


def _timed(model: Model, feed: Arrays, count: int) -> list[float]:
    """The seconds of each of ``count`` requests, after one that does not count."""
    seconds = []
    model.infer(feed)
    for _ in range(count):
        began = time.perf_counter()
        model.infer(feed)
        seconds.append(time.perf_counter() - began)
    return seconds


def figures(way: str, turns: list[list[float]], direct: list[list[float]]) -> Latency:
    """A way's figures out of its turns and the direct one's, each the seconds of its requests."""
    seconds = np.concatenate(turns)
    p50, p95, p99 = (float(p) * 1e3 for p in np.percentile(seconds, (50, 95, 99)))
    ratios = [np.median(ours) / np.median(theirs) for ours, theirs in zip(turns, direct, strict=True)]
    return Latency(way, len(seconds), p50, p95, p99, float(np.median(ratios)))
