"""A whole run of bench: the matrix of points, the baseline between them, and both in turns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from triton_stack_client import progress
from triton_stack_client.bench import latency, saturation, turns
from triton_stack_client.bench.baseline import Baseline, OnnxRuntime, Trtexec
from triton_stack_client.bench.perf import PerfAnalyzer, Point
from triton_stack_client.bench.results import Results, clients
from triton_stack_client.errors import ClientError
from triton_stack_client.verify.release import Release


@dataclass(frozen=True)
class Plan:
    """What to measure; ``window`` and ``turn`` in seconds; ``loads``: batch and clients, instead of all."""

    ways: list[str]
    batches: list[int]
    concurrency: list[int]
    window: float
    trials: int
    turn: float
    requests: int
    rounds: int
    loads: tuple[tuple[int, int], ...] = ()

    def points(self) -> list[tuple[str, int, int]]:
        """Way, batch and concurrency of each point, in order."""
        loads = self.loads or [(b, c) for b in self.batches for c in self.concurrency]
        batches = dict.fromkeys(b for b, _ in loads)
        return [(w, b, c) for b in batches for w in self.ways for of, c in loads if of == b]


def possible(perf: PerfAnalyzer, plan: Plan) -> list[str]:
    """The ways of a plan, without CUDA shared memory where that cannot be had (a server in a container)."""
    found = []
    for way in plan.ways:
        if way.endswith("+cuda"):
            try:
                perf.windows(way, min(plan.batches), 1, window=0.1)
            except ClientError as e:
                progress.say(f"{way} is left out: {e}")
                continue
        found.append(way)
    return found


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
    if isinstance(baseline, Trtexec):
        return _beside_trtexec(plan, release, perf, baseline, results)
    if not isinstance(baseline, OnnxRuntime):
        return results  # a baseline that cannot take turns: its figures are of its own time
    progress.say(f"in turns with {baseline.name}: {plan.requests} requests each, one client")
    protocols = {way: url for way, url in urls.items() if way in plan.ways}
    taken = latency.measure(
        release,
        baseline.local,
        protocols,
        requests=plan.requests,
        batch=min(plan.batches),
        shared_memory="off",
    )
    unfinished = "the last comparison with the baseline was not made"
    keep(Results({**facts, "unfinished": unfinished}, points, local, taken, None))
    best = results.best()
    progress.say(f"in turns with {baseline.name}: saturation, {plan.rounds} rounds")
    saturated = saturation.measure(
        perf, baseline.local, best, rounds=plan.rounds, seconds=plan.turn + plan.window
    )
    return Results(facts, points, local, taken, saturated)


def _beside_trtexec(
    plan: Plan, release: Release, perf: PerfAnalyzer, graph: Trtexec, results: Results
) -> Results:
    """Local at each batch size that counts, with a CUDA graph and without, and what is compared, in turns."""
    opt = int(release.spec.get("batch", {}).get("opt") or min(32, release.max_batch))
    sizes = sorted({*plan.batches, opt, release.max_batch})
    plain = graph.without_graph()
    progress.say(f"local, without a CUDA graph: batch {', '.join(map(str, sizes))}")
    for batch in sizes:
        plain.turn(batch, plan.turn)
        graph.turn(batch, plan.turn)
    loads = turns.loads(plan.ways, opt, release.max_batch) if release.min_batch == 1 else []
    compared = turns.measure(perf, graph, loads, rounds=plan.rounds, seconds=plan.turn, say=progress.say)
    return replace(results, local=[*graph.figures(), *plain.figures()], comparisons=compared)
