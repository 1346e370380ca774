"""Served against local on a GPU: short runs of trtexec and short looks at the server, in turns.

A GPU's clocks and its neighbours change within a minute. What is compared is measured within the same round,
and a ratio is the median of the rounds' own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Protocol

from triton_stack_client.bench.baseline import Figure
from triton_stack_client.bench.perf import Point


@dataclass(frozen=True)
class Load:
    """A load of the server, and the batch size that the same engine runs locally for comparison.

    ``figure``: "p50" (ms; lower is better) or "images_per_s" (higher is better), of both.
    """

    figure: str
    way: str
    batch: int
    concurrency: int
    local_batch: int


@dataclass(frozen=True)
class Comparison:
    """Medians over ``rounds``; ``ratio``: served over local, the median of the rounds' own."""

    figure: str
    way: str
    batch: int
    concurrency: int
    local_batch: int
    rounds: int
    served: float
    local: float
    ratio: float


class Local(Protocol):
    """trtexec (baseline.py)."""

    def turn(self, batch: int, seconds: float) -> Figure:
        """Measure once more."""


class Served(Protocol):
    """perf_analyzer (perf.py)."""

    def windows(self, way: str, batch: int, concurrency: int, *, window: float) -> Point:
        """A short look."""


def measure(
    served: Served,
    local: Local,
    loads: list[Load],
    *,
    rounds: int,
    seconds: float,
    say: Callable[[str], None],
) -> list[Comparison]:
    """Measure every load in each of ``rounds``, each look for about ``seconds``; raises ClientError."""
    found: list[list[tuple[float, float]]] = [[] for _ in loads]
    for number in range(1, rounds + 1):
        say(f"in turns with trtexec: round {number} of {rounds}")
        own: dict[int, Figure] = {}
        for load, pairs in zip(loads, found, strict=True):
            if load.local_batch not in own:
                own[load.local_batch] = local.turn(load.local_batch, seconds)
            point = served.windows(load.way, load.batch, load.concurrency, window=seconds / 3)
            pairs.append((getattr(point, load.figure), getattr(own[load.local_batch], load.figure)))
    return [
        Comparison(
            load.figure, load.way, load.batch, load.concurrency, load.local_batch, rounds,
            median(s for s, _ in pairs), median(o for _, o in pairs), median(s / o for s, o in pairs),
        )
        for load, pairs in zip(loads, found, strict=True)
    ]  # fmt: skip


def loads(ways: list[str], opt: int, largest: int) -> list[Load]:
    """What a GPU is judged by: one client, and saturation with single images and with batches."""
    found = [Load("p50", way, 1, 1, 1) for way in ways]
    for way in (w for w in ways if w in ("grpc", "grpc+cuda")):
        found.append(Load("images_per_s", way, 1, 256, largest))
    batch = min(32, largest) if largest >= opt else opt
    found += [Load("images_per_s", way, batch, 8, batch) for way in ways if way.endswith("+cuda")]
    return found
