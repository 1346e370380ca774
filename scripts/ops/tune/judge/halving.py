"""Successive halving: short looks at many candidates, long ones at the few that stay.

Every round interleaves looks at the present configuration and compares each candidate with those just before
and after it (statistics.py). The better half goes on. What is best in the end is looked at afresh, in turns
with the present one, and wins only beyond the noise of that: the looks that made it the best flatter it.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Callable, Dict, List, Optional, Protocol, Tuple

from ops.tune.judge.objective import Objective
from ops.tune.judge.statistics import PRESENT, Look, Verdict, differences, noise, verdict

WINDOWS = 3  # of perf_analyzer in one look
_SHORTEST, _LONGEST = 0.15, 1.5  # seconds of a window
_FINALISTS = 2
_MOST_KEPT = 0.6  # of the time, for the confirmation
_FIRST = 0.6  # of the time for all rounds: the first one's, where an even share is too little
_BLOCKS = (3, 10)  # the least and the most of a confirmation ...
_ENOUGH = 5
_CLEAR = 3  # ... which ends after as many when there is no doubt


class LookFailedError(Exception):
    """A candidate could not be measured: it does not load, or requests fail."""


class Bench(Protocol):
    """Measures configurations by name.

    Attributes:
        fixed: seconds that a look takes beside its windows, as far as is known.
        switch: seconds until a candidate that was not looked at just before is ready.
        shortest: seconds of a window in which some requests end at every load.
    """

    fixed: float
    switch: float
    shortest: float

    def look(self, who: str, window: float) -> Look:
        """Look at all loads; ``window`` is seconds of each of three windows. Raises LookFailedError."""


class Halving:
    """One competition.

    Args:
        once: keeps each step for a run that is resumed (journal.Journal.once).
        left: the seconds that are left of the budget.
        say: takes lines of progress.
    """

    def __init__(
        self,
        bench: Bench,
        objective: Objective,
        *,
        once: Callable[[str, Callable[[], Any]], Any],
        left: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._bench = bench
        self._objective = objective
        self._once = once
        self._left = left
        self._say = say
        self._last: Optional[Look] = None  # of the present one, made just now
        self._gains: Dict[str, List[Tuple[float, float]]] = {}  # difference and weight, by candidate
        self._pairs: List[Tuple[float, float]] = []
        self.failed: Dict[str, str] = {}
        self.looks: Dict[str, List[Look]] = {}

    def gain(self, who: str) -> float:
        """The mean difference from the present one, longer looks counting for more; 0 for the present one."""
        found = self._gains.get(who)
        return sum(d * w for d, w in found) / sum(w for _, w in found) if found else 0.0

    @property
    def noise(self) -> float:
        """The standard deviation of one look, so far."""
        return noise(self._pairs)

    def rank(self, name: str, candidates: List[str], *, reserve: float) -> List[str]:
        """The best few of ``candidates`` (the most promising first), best first.

        Args:
            name: of this competition, for the journal.
            reserve: the share of the time left that is kept for what comes after.
        """
        kept = self._once(f"{name}: time", lambda: self._kept(reserve))
        alive, number = list(candidates), 0
        while alive:
            number += 1
            rounds = max(1, math.ceil(math.log2(len(alive) / _FINALISTS))) if len(alive) > _FINALISTS else 1
            step = f"{name}: round {number}"
            plan = partial(self._plan, alive, rounds, kept)
            window, names = self._once(f"{step}: plan", plan)
            if not names:
                break
            before, alive = alive, names
            if len(before) > len(names):
                self._say(
                    f"{len(before) - len(names)} candidates are left out: the budget is for {len(names)}"
                )
            self._round(step, alive, window)
            measured = [who for who in alive if who in self._gains and who not in self.failed]
            alive = sorted(measured, key=self.gain, reverse=True)
            self._news(step, alive)
            if len(alive) <= _FINALISTS:
                break
            alive = alive[: max(_FINALISTS, math.ceil(len(alive) / 2))]
        return [who for who in alive if who in self._gains and who not in self.failed]

    def confirm(self, name: str, who: str) -> Optional[Verdict]:
        """Look at a candidate and the present one afresh, in turns; None where the time does not suffice."""
        plan = self._once(f"{name}: plan", self._confirm_plan)
        if plan is None:
            return None
        window, count = plan
        judged: Optional[Verdict] = None
        self._say(f"confirming {who}: {count} times in turns with the present configuration")
        blocks = []
        for number in range(1, count + 1):
            if number > 1 and self._left() < 4 * self._seconds(window):
                break
            data = self._once(f"{name}: block {number}", partial(self._block, who, window))
            if data is None:
                return None
            blocks.append([Look.of(d) for d in data])
            self._keep(blocks[-1])
            judged = verdict(blocks, self._objective.merit)
            if number >= _CLEAR and (judged.clear or judged.gain < 0):
                break
        return judged

    def _plan(self, alive: List[str], rounds: int, kept: float) -> Tuple[float, List[str]]:
        """The length of a window and the candidates that there is time for in one of ``rounds``, the first of
        them; ``kept`` seconds stay for what comes after."""
        left = self._left() - kept
        names, seconds = list(alive), left / rounds
        if rounds > 1 and self._fits(names, seconds) < self._shortest():
            seconds = left * _FIRST  # rather short looks at many than none at most
        while names:
            window = self._fits(names, seconds)
            if window >= self._shortest():
                return min(window, max(_LONGEST, self._shortest())), names
            names.pop()
        return 0.0, []

    def _fits(self, names: List[str], seconds: float) -> float:
        """The window of each look of a round that may take ``seconds``."""
        return self._window((seconds - len(names) * self._bench.switch) / _looks(len(names)))

    def _window(self, seconds: float) -> float:
        """The window of a look that may take ``seconds``."""
        return (seconds - self._bench.fixed) / (WINDOWS * len(self._objective.loads()))

    def _seconds(self, window: float) -> float:
        """What a look takes."""
        return WINDOWS * window * len(self._objective.loads()) + self._bench.fixed

    def _confirm_plan(self) -> Optional[Tuple[float, int]]:
        for count in range(_BLOCKS[1], _BLOCKS[0] - 1, -1):
            window = self._window(self._left() / (4 * count))
            # Rather fewer and longer ones, down to five: below, chance is bounded too loosely.
            if window >= max(0.3 if count > _ENOUGH else 0.0, self._shortest()):
                return min(window, max(_LONGEST, self._shortest())), count
        return None

    def _kept(self, reserve: float) -> float:
        """Seconds that stay for what comes after: enough for a short confirmation and a little more,
        since a round may take longer than planned, but some must be left to find what is to be confirmed."""
        left, look = self._left(), self._seconds(self._shortest())
        return min(max(reserve * left, 1.3 * 4 * _ENOUGH * look), _MOST_KEPT * left)

    def _shortest(self) -> float:
        return max(_SHORTEST, self._bench.shortest)

    def _block(self, who: str, window: float) -> Optional[List[Dict[str, Any]]]:
        try:
            looks = [self._bench.look(w, window) for w in (PRESENT, who, who, PRESENT)]
        except LookFailedError as e:
            self.failed[who] = str(e)
            return None
        return [look.as_json() for look in looks]

    def _round(self, step: str, alive: List[str], window: float) -> None:
        size = _group(len(alive))
        groups = [alive[n : n + size] for n in range(0, len(alive), size)]
        for number, names in enumerate(groups, 1):
            if number > 1 and self._left() < 0:
                self._say("the budget is used up")
                break
            data = self._once(f"{step}: group {number}", partial(self._measured, names, window))
            self.failed.update(data["failed"])
            looks = [Look.of(d) for d in data["looks"]]
            self._keep(looks)
            self._pairs.append(
                (self._objective.merit(looks[0].loads), self._objective.merit(looks[-1].loads))
            )
            for who, difference in differences(looks, self._objective.merit):
                self._gains.setdefault(who, []).append((difference, window))
            done = min(number * size, len(alive))
            best = max(self._gains, key=self.gain, default=PRESENT)
            left = max(0.0, self._left())
            self._say(f"{step}: {done} of {len(alive)}; best so far {self._words(best)}; {left:.0f} s left")

    def _measured(self, names: List[str], window: float) -> Dict[str, Any]:
        """A group: the present one, the candidates, the present one.

        Its first look is the last one of the group before, where that was just made, and as long.
        """
        failed: Dict[str, str] = {}
        last = self._last
        looks = [last if last and last.window == window else self._bench.look(PRESENT, window)]
        for who in names:
            if self._left() < 0 and len(looks) > 1:
                break
            try:
                looks.append(self._bench.look(who, window))
            except LookFailedError as e:
                failed[who] = str(e)
                self._say(f"{who} is out: {e}")
        looks.append(self._bench.look(PRESENT, window))
        self._last = looks[-1]
        return {"looks": [look.as_json() for look in looks], "failed": failed}

    def _keep(self, looks: List[Look]) -> None:
        for look in looks:
            self.looks.setdefault(look.who, []).append(look)

    def _news(self, step: str, ranked: List[str]) -> None:
        leaders = ", ".join(self._words(who) for who in ranked[:3])
        self._say(f"{step} is done: {leaders or 'nothing is left'}")

    def _words(self, who: str) -> str:
        if who not in self._gains:
            return who
        return f"{who} {math.exp(self.gain(who)):.2f} times the present one (± {self.noise:.0%} a look)"


def _group(count: int) -> int:
    """How many candidates stand between two looks at the present one."""
    return 2 if count > 4 else 1


def _looks(count: int) -> int:
    """How many looks a round of so many candidates takes."""
    return count + math.ceil(count / _group(count)) + 1
