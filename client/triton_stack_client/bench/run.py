"""A whole run of bench: the matrix of points, the baseline between them, and both in turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from triton_stack_client import progress
from triton_stack_client.bench import latency, saturation
from triton_stack_client.bench.baseline import Baseline, OnnxRuntime
from triton_stack_client.bench.perf import PerfAnalyzer, Point
from triton_stack_client.bench.results import Results, clients
from triton_stack_client.verify.release import Release


@dataclass(frozen=True)
class Plan:
    """What to measure; ``window`` and ``turn`` in seconds."""

    ways: list[str]
    batches: list[int]
    concurrency: list[int]
    window: float
    trials: int
    turn: float
    requests: int
    rounds: int

    def points(self) -> list[tuple[str, int, int]]:
        """Way, batch and concurrency of each point, in order."""
        return [(w, b, c) for b in self.batches for w in self.ways for c in self.concurrency]


def run(
    plan: Plan,
    release: Release,
    perf: PerfAnalyzer,
    baseline: Baseline,
    urls: dict[str, str],
    facts: dict[str, Any],
    keep: Callable[[Results], None],
) -> Results:
    """Measure everything.

    Args:
        keep: is given, after each point, all that has been measured so far.

    Raises:
        ClientError: the server, perf_analyzer or the baseline fails.
    """
    todo = plan.points()
    points: list[Point] = []
    for number, (way, batch, concurrency) in enumerate(todo, 1):
        baseline.round(batch, plan.turn)
        expected = concurrency * baseline.figure(batch).p50 / 1e3
        # A window must hold some requests of every client to say anything about them.
        window = min(max(plan.window, 4 * expected), 4 * plan.window)
        point = perf.measure(
            way, batch, concurrency, window=window, expected=expected / concurrency, trials=plan.trials
        )
        points.append(point)
        mark = "" if point.stable else "  UNSTABLE"
        progress.say(
            f"{number}/{len(todo)} {way}, batch {batch}, {clients(concurrency)}: "
            f"{point.images_per_s:.1f} images/s, p50 {point.p50:.1f} ms, p99 {point.p99:.1f} ms{mark}",
        )
        unfinished = f"{number} of {len(todo)} points were measured"
        local = [baseline.figure(b) for b in dict.fromkeys(p.batch for p in points)]
        keep(Results({**facts, "unfinished": unfinished}, list(points), local, [], None))
    results = Results(facts, points, local, [], None)
    if not isinstance(baseline, OnnxRuntime):
        return results  # trtexec cannot take turns: its figures are of its own time
    progress.say(f"in turns with {baseline.name}: {plan.requests} requests each, one client")
    protocols = {way: url for way, url in urls.items() if way in plan.ways}
    turns = latency.measure(
        release,
        baseline.local,
        protocols,
        requests=plan.requests,
        batch=min(plan.batches),
        shared_memory="off",
    )
    unfinished = "the last comparison with the baseline was not made"
    keep(Results({**facts, "unfinished": unfinished}, points, local, turns, None))
    best = results.best()
    progress.say(f"in turns with {baseline.name}: saturation, {plan.rounds} rounds")
    saturated = saturation.measure(
        perf, baseline.local, best, rounds=plan.rounds, seconds=plan.turn + plan.window
    )
    return Results(facts, points, local, turns, saturated)
