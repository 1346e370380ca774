"""Successive halving with a simulated meter: noise, drift, and how often it is right.

The simulated machine has a speed that drifts (a slow wave and a steady slope, both larger than the noise),
and every look is noisy. What is simulated is the machine alone: the competition is the real one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from ops.tune.judge.halving import Halving, LookFailedError
from ops.tune.judge.objective import Objective
from ops.tune.judge.statistics import PRESENT, Look, Verdict, differences, verdict

THROUGHPUT = Objective("throughput", (1, 64))


class Machine:
    """A bench with a clock of its own. ``speeds``: by name, times the present one's; None does not load."""

    def __init__(
        self, speeds: dict[str, float | None], seed: int, *, noise: float = 0.03, drift: float = 0.15
    ) -> None:
        self.speeds = {PRESENT: 1.0, **speeds}
        self.fixed = 0.5
        self.switch = 0.0
        self.shortest = 0.0
        self.now = 0.0
        self.looks: list[tuple[str, float]] = []
        self._noise, self._drift = noise, drift
        self._random = random.Random(seed)
        self._phase = self._random.uniform(0, 6.3)

    def look(self, who: str, window: float) -> Look:
        self.looks.append((who, window))
        seconds = 3 * window
        middle = self.now + self.fixed + seconds / 2
        self.now += self.fixed + seconds
        speed = self.speeds[who]
        if speed is None:
            raise LookFailedError("does not load")
        machine = 1 + self._drift * math.sin(middle / 40 + self._phase) - self._drift * middle / 300
        noisy = speed * machine * math.exp(self._random.gauss(0, self._noise / math.sqrt(seconds)))
        figures = {"images_per_s": 1000 * noisy, "p50": 64 / noisy, "p95": 70 / noisy, "p99": 90 / noisy}
        return Look(who, middle, window, {64: figures})


def compete(
    machine: Machine, candidates: list[str], seconds: float, once: Callable[..., Any] | None = None
) -> tuple[str | None, Verdict | None, Halving]:
    halving = Halving(
        machine,
        THROUGHPUT,
        once=once or (lambda _name, do: do()),
        left=lambda: seconds - machine.now,
        say=lambda _text: None,
    )
    ranked = halving.rank("settings", candidates, reserve=0.35)
    if not ranked:
        return None, None, halving
    return ranked[0], halving.confirm("confirmation", ranked[0]), halving


def test_it_finds_the_best_of_many_although_the_machine_drifts() -> None:
    names = [f"c{n:02}" for n in range(16)]
    found = []
    for seed in range(200):
        speeds: dict[str, float | None] = {name: 0.9 + 0.01 * n for n, name in enumerate(names)}
        speeds["c05"] = 1.25
        order = random.Random(seed).sample(names, len(names))
        best, judged, _ = compete(Machine(speeds, seed), order, 180)
        found.append(best == "c05" and judged is not None and judged.wins)
    assert sum(found) >= 0.97 * len(found), sum(found)


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.10])
def test_it_does_not_take_chance_for_a_gain(noise: float) -> None:
    """Sixteen candidates that are all as good as the present one, or worse: none may win."""
    names = [f"c{n:02}" for n in range(16)]
    wins = 0
    for seed in range(400):
        speeds: dict[str, float | None] = {name: 1.0 - 0.01 * (n % 3) for n, name in enumerate(names)}
        _, judged, _ = compete(Machine(speeds, seed, noise=noise), names, 120)
        wins += judged is not None and judged.wins
    assert wins <= 0.02 * 400, f"{wins} of 400"


def test_a_small_gain_beyond_the_noise_is_seen() -> None:
    wins = 0
    for seed in range(200):
        _, judged, _ = compete(Machine({"a": 1.05, "b": 0.97}, seed, noise=0.02), ["b", "a"], 60)
        wins += judged is not None and judged.wins
    assert wins >= 0.9 * 200, f"{wins} of 200"


def test_what_is_slower_never_wins() -> None:
    for seed in range(200):
        speeds: dict[str, float | None] = {"a": 0.97, "b": 0.9, "c": 0.8}
        _, judged, _ = compete(Machine(speeds, seed, noise=0.05), list(speeds), 60)
        assert judged is None or not judged.wins


@pytest.mark.parametrize("seconds", [4, 10, 25, 60, 240])
def test_the_budget_is_a_bound(seconds: float) -> None:
    names = [f"c{n:02}" for n in range(24)]
    for seed in range(20):
        machine = Machine(dict.fromkeys(names, 1.1), seed)
        compete(machine, names, seconds)
        longest = max((3 * window + machine.fixed for _, window in machine.looks), default=0)
        assert machine.now <= seconds + 4 * longest
        assert seconds < 10 or machine.now <= seconds * 1.05


def test_short_looks_first_long_ones_for_the_few_that_stay() -> None:
    names = [f"c{n:02}" for n in range(16)]
    machine = Machine({name: 1 + n / 50 for n, name in enumerate(names)}, 1)
    _, _, halving = compete(machine, names, 180)
    windows = [look.window for look in halving.looks["c15"]][:3]  # the rounds; then comes the confirmation
    assert windows == sorted(windows)
    assert windows[-1] > 2 * windows[0]
    assert sum(who == "c00" for who, _ in machine.looks) == 1
    present = [who == PRESENT for who, _ in machine.looks]
    between = "".join("P" if p else "c" for p in present)
    assert "ccc" not in between, "the present one is measured beside every candidate"


def test_a_candidate_that_does_not_load_is_out_and_the_rest_goes_on() -> None:
    machine = Machine({"bad": None, "good": 1.5}, 3)
    best, judged, halving = compete(machine, ["bad", "good"], 60)
    assert best == "good"
    assert judged is not None
    assert judged.wins
    assert halving.failed == {"bad": "does not load"}


def test_without_time_nothing_is_proposed() -> None:
    best, judged, _ = compete(Machine({"a": 2.0}, 1), ["a"], 3)
    assert best is None or judged is None


def test_a_resumed_run_repeats_nothing_and_ends_alike() -> None:
    names = [f"c{n:02}" for n in range(8)]
    speeds: dict[str, float | None] = {name: 1 + n / 20 for n, name in enumerate(names)}
    kept: dict[str, Any] = {}
    machine = Machine(speeds, 5)

    class KilledError(Exception):
        pass

    def dies(name: str, do: Callable[[], Any]) -> Any:
        if len(kept) == 9:
            raise KilledError
        return kept.setdefault(name, do())

    with pytest.raises(KilledError):
        compete(machine, names, 120, dies)
    looked = len(machine.looks)
    assert looked > 8

    def goes_on(name: str, do: Callable[[], Any]) -> Any:
        if name not in kept:
            kept[name] = do()
        return kept[name]

    best, judged, halving = compete(machine, names, 120, goes_on)
    assert best == "c07"
    assert judged is not None
    assert judged.wins
    again = [who for who, _ in machine.looks[looked:]]
    assert again[0] == PRESENT, "the look before the kill is too old to compare with"
    first = sum(1 for look in halving.looks["c00"])
    assert first == 1


def test_a_steady_drift_cancels() -> None:
    def at(who: str, seconds: float, rate: float) -> Look:
        return Look(who, seconds, 1.0, {64: {"images_per_s": rate, "p50": 1.0, "p99": 1.0}})

    # The machine loses 10 % between the two looks at the present one; the candidate is just as fast.
    group = [
        at(PRESENT, 0, 100),
        at("a", 1, 100 * 0.9**0.25),
        at("b", 3, 100 * 0.9**0.75),
        at(PRESENT, 4, 90),
    ]
    for _, difference in differences(group, THROUGHPUT.merit):
        assert difference == pytest.approx(0, abs=1e-9)
    block = [at(PRESENT, 0, 100), at("a", 1, 97), at("a", 2, 94), at(PRESENT, 3, 91.1)]
    judged = verdict([block] * 6, THROUGHPUT.merit)
    assert judged.gain == pytest.approx(0, abs=1e-3)
    assert not judged.wins


LOOKS = {
    1: {"images_per_s": 500.0, "p50": 2.0, "p99": 4.0},
    64: {"images_per_s": 4000.0, "p50": 16.0, "p99": 40.0},
}


def test_merits_are_logarithms_of_what_the_objective_says() -> None:
    twice = {n: {**f, "images_per_s": 2 * f["images_per_s"], "p50": f["p50"] / 4} for n, f in LOOKS.items()}
    for kind, ratio in (("throughput", 2), ("latency", 4), ("balanced", math.sqrt(2 * 4))):
        objective = Objective(kind, (1, 64))
        gain = objective.merit({n: twice[n] for n in objective.loads()}) - objective.merit(
            {n: LOOKS[n] for n in objective.loads()}
        )
        assert math.exp(gain) == pytest.approx(ratio)


def test_a_latency_budget_counts() -> None:
    tight, none = Objective("throughput", (1, 64), 10.0), Objective("throughput", (1, 64))
    assert none.loads() == [64]
    assert tight.loads() == [1, 64]
    assert tight.merit(LOOKS) == pytest.approx(math.log(500)), "the load that keeps it"
    assert tight.keeps_budget(LOOKS)
    assert not Objective("throughput", (1, 64), 3.0).keeps_budget(LOOKS)
    assert not Objective("balanced", (1, 64), 10.0).keeps_budget(LOOKS)
    assert Objective("latency", (1, 64), 10.0).keeps_budget({1: LOOKS[1]})
