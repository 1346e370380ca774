"""Engines for other batch sizes: built while there is time, ranked by trtexec before any gets a server."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Dict, List

from ops import console
from ops.tune import candidates
from ops.tune.candidates import Candidate, Changes
from ops.tune.journal import Clock, Journal
from ops.tune.judge.halving import LookFailedError
from ops.tune.judge.objective import Objective
from ops.tune.judge.statistics import PRESENT
from ops.tune.measure.lab import Lab
from ops.tune.subject import Subject

_SHARE = 0.35  # of the budget at most, for building
_TRTEXEC_SECS = 20.0  # of trtexec on an engine at two batch sizes, its loading included
_KEPT = 2  # beside the present one
# An engine so much worse than the present one by itself is not served better by any setting. It is not held
# against the best one: where copies are the limit, the server does not reach what that does by itself.
_FAR_BEHIND = math.log(1.25)


@dataclass
class Ranked:
    """Attributes: batches, the changes that go on, {} for the present engine, the best first; speeds, a row
    for each engine that was measured; known, by name what was built; out, what the builder refused."""

    batches: List[Changes] = field(default_factory=list)
    speeds: List[Dict[str, Any]] = field(default_factory=list)
    known: Dict[str, Candidate] = field(default_factory=dict)
    out: Dict[str, Candidate] = field(default_factory=dict)


def ranked(subject: Subject, objective: Objective, lab: Lab, journal: Journal, clock: Clock) -> Ranked:
    """Build and rank them.

    Raises:
        OpsError: the builder or the meter cannot be run at all.
    """
    found = Ranked(known={PRESENT: candidates.present()})
    _build(found, subject, objective, lab, journal, clock)
    speeds: Dict[str, Dict[str, Any]] = {}
    for name, candidate in found.known.items():
        most = int(candidate.changes.get("batch", {}).get("max", subject.present.batch["max"]))
        speed = journal.once(f"speed of {name}", partial(_speed, lab, clock, name, most))
        if speed:
            speeds[name] = speed
            found.speeds.append({"name": name, "what": candidate.words(), **speed})
            console.progress(
                f"engine, {candidate.words()}: batch 1 {speed['p50_ms']:.3f} ms, batch {most} "
                f"{speed['images_per_s']:.0f} images/s by itself"
            )
    worth = {name: _worth(objective.kind, speed) for name, speed in speeds.items()}
    present = worth.get(PRESENT, max(worth.values(), default=0.0))
    # Unmeasured ones (no time, no trtexec for it) stay behind those that were measured.
    order = sorted(found.known, key=lambda n: -worth.get(n, present - _FAR_BEHIND))
    kept = [n for n in order if n != PRESENT and worth.get(n, present) > present - _FAR_BEHIND][:_KEPT]
    found.batches = [found.known[n].changes for n in order if n == PRESENT or n in kept]
    words = ", ".join(found.known[n].words() for n in order if n == PRESENT or n in kept)
    console.progress(f"engines that go on, the best first: {words}")
    return found


def _build(
    found: Ranked, subject: Subject, objective: Objective, lab: Lab, journal: Journal, clock: Clock
) -> None:
    seconds = subject.manifest.get("seconds") or {}
    usual = float(seconds.get("engine", 60)) + float(seconds.get("verify", 10))
    # The model is quantized for each INT8 engine; how long that takes, the first one shows.
    expected = {False: usual, True: usual}
    for number, changes in enumerate(candidates.engines(subject.present, objective.kind), 1):
        candidate = Candidate(f"e{number}", changes)
        int8 = "calibration" in changes
        if int8 and any("calibration" in c.changes for c in found.out.values()):
            continue  # another batch size changes nothing about the quantized model

        def there_is_time(secs: float = expected[int8]) -> bool:
            return clock.seconds - clock.left() + secs <= _SHARE * clock.seconds

        first = int8 and expected[int8] == usual
        about = f"about {expected[int8]:.0f} s" + (", and quantizing before that" if first else "")
        if not journal.once(f"engine {number}: go", there_is_time):
            console.progress(f"no time for engine {number} ({candidate.words()}): {about}")
            if int8:
                continue
            return
        console.progress(f"engine {number}: {candidate.words()}; {about}")
        [row] = journal.once(f"lay out engine {number}", partial(lab.lay_out, [candidate]))
        lab.know(candidate, row)
        if row["ok"]:
            found.known[candidate.name] = candidate
            expected[int8] = max(expected[int8], float(row["seconds"]))
        else:
            found.out[candidate.name] = candidate
            console.progress(f"engine {number} is out: {row['error']}")
            if row["remedy"]:
                console.progress(f"  {row['remedy']}")


def _speed(lab: Lab, clock: Clock, name: str, most: int) -> Dict[str, Any]:
    """Images/s at the largest batch, p50 in ms at batch 1; empty where there is no time or trtexec fails."""
    if clock.left() < 2 * _TRTEXEC_SECS:
        return {}
    try:
        one, full = (lab.engine_speed(name, batch) for batch in (1, most))
    except LookFailedError as e:
        console.progress(f"trtexec does not measure {name}: {e}")
        return {}
    return {"p50_ms": one["p50"], "images_per_s": full["images_per_s"], "batch": most}


def _worth(kind: str, speed: Dict[str, Any]) -> float:
    rate, late = math.log(speed["images_per_s"]), -math.log(speed["p50_ms"])
    return {"throughput": rate, "latency": late, "balanced": (rate + late) / 2}[kind]
