"""A tuning run, from the first look at the present configuration to the last word on the best candidate."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence

from ops import console, settings
from ops.errors import OpsError
from ops.tune import candidates, engines, outcome
from ops.tune.candidates import Candidate, Changes
from ops.tune.journal import Clock, Journal
from ops.tune.judge.halving import Halving
from ops.tune.judge.objective import Objective, count
from ops.tune.judge.statistics import PRESENT, Look
from ops.tune.measure import memory
from ops.tune.measure.lab import Lab
from ops.tune.subject import Subject, cores

_SERVER_SECS = 12.0  # of one more scratch server on a GPU
_FINISH = 2.0  # seconds for the report and the way out


@dataclass
class Run:
    """What the steps need and what they have found.

    Attributes:
        device: "gpu" or "cpu". gpu: the GPU's number or UUID.
    """

    subject: Subject
    objective: Objective
    device: str
    gpu: str
    lab: Lab
    journal: Journal
    clock: Clock
    known: Dict[str, Candidate] = field(default_factory=lambda: {PRESENT: candidates.present()})
    chosen: Optional[str] = None
    verdict: Optional[Dict[str, Any]] = None
    conclusion: str = ""
    engines: List[Dict[str, Any]] = field(default_factory=list)
    sweeps: Dict[str, Look] = field(default_factory=dict)

    def go(self) -> Dict[str, Any]:
        """Do everything; what was found, as data. Raises OpsError."""
        self._begin()
        halving = Halving(
            self.lab, self.objective, once=self.journal.once, left=self._left, say=console.progress
        )
        batches = self._engines() if self.device == "gpu" else []
        first = self._affordable(self._candidates(batches))
        self._lay_out("candidates", first)
        self._calibrate()
        names = [c.name for c in first if c.name not in self.lab.refused]
        console.progress(
            f"{len(names)} candidates for {self.objective.words()}; {self._left():.0f} s of "
            f"{self.clock.seconds:.0f} s are left"
        )
        ranked = halving.rank("settings", names, reserve=0.5 if self.device == "gpu" else 0.4)
        if self.device == "gpu":
            ranked = self._server_settings(halving, ranked)
        self._conclude(halving, ranked)
        self._sweep()
        return self._found(halving)

    def _left(self) -> float:
        return self.clock.left() - _FINISH

    def _begin(self) -> None:
        subject = self.subject
        instances = subject.present.instances(self.device)
        memory.check(self.device, self.gpu, subject.engine_bytes, instances)
        self._lay_out("present", [self.known[PRESENT]])
        if PRESENT in self.lab.refused:
            raise OpsError(
                f"the present configuration cannot be made again: {self.lab.refused[PRESENT]}",
                remedy="./scripts/redeploy --force, then tune again",
            )

    def _calibrate(self) -> None:
        """The first look at the present configuration, which is in no comparison."""
        console.progress("starting a scratch server beside the live one")
        for clients, figures in self.lab.calibrate().loads.items():
            console.progress(
                f"at present, {count(clients)}: {figures['images_per_s']:.0f} images/s, "
                f"p50 {figures['p50']:.2f} ms, p99 {figures['p99']:.2f} ms"
            )

    def _lay_out(self, step: str, wanted: Sequence[Candidate]) -> None:
        """Have the builder make what is not there yet, and remember it for a run that is resumed."""
        rows = self.journal.once(f"lay out {step}", lambda: self.lab.lay_out(wanted))
        by_name = {candidate.name: candidate for candidate in wanted}
        for found in rows:
            self.known[found["name"]] = by_name[found["name"]]
            self.lab.know(by_name[found["name"]], found)

    def _engines(self) -> List[Changes]:
        """The batch sizes that go on, as changes of the spec."""
        found = engines.ranked(self.subject, self.objective, self.lab, self.journal, self.clock)
        self.known.update({**found.known, **found.out})
        self.engines = found.speeds
        return found.batches

    def _candidates(self, batches: List[Changes]) -> List[Candidate]:
        present, kind = self.subject.present, self.objective.kind
        if self.device == "cpu":
            return candidates.for_cpu(present, kind, cores())
        return candidates.for_gpu(present, kind, batches)

    def _affordable(self, found: List[Candidate]) -> List[Candidate]:
        """Those that the free memory has room for, beside the present one."""
        free = self.journal.once("free memory", lambda: memory.free_mib(self.device, self.gpu))
        if free is None:
            return found
        fits = []
        for candidate in found:
            wanted = candidate.changes.get("serving", {}).get("instances", {})
            copies = int(wanted.get(self.device, self.subject.present.instances(self.device)))
            if memory.needed_mib(self.device, self.subject.engine_bytes, copies) <= free:
                fits.append(candidate)
        if len(fits) < len(found):
            left_out = len(found) - len(fits)
            console.progress(f"{left_out} candidates need more memory than is free ({free} MiB)")
        return fits

    def _server_settings(self, halving: Halving, ranked: List[str]) -> List[str]:
        """The best candidate, and the present one, on servers with other settings."""
        more = [
            candidate
            for candidate in candidates.with_settings([self.known[n] for n in ranked[:1]])
            if all(settings.known(name) for name in candidate.server)
        ]
        needed = 2 * len(more) * _SERVER_SECS
        if not more or not self.journal.once("server settings: go", lambda: self._left() > needed):
            return ranked
        self._lay_out("server settings", more)
        names = [*ranked, *(c.name for c in more if c.name not in self.lab.refused)]
        found = halving.rank("server", names, reserve=0.5)
        kept = [self.known[PRESENT], *(self.known[n] for n in found[:2])]
        self.lab.close_servers(kept)
        return found

    def _conclude(self, halving: Halving, ranked: List[str]) -> None:
        """Confirm the best one, or else the second; only what wins then is proposed."""
        nothing = "nothing better found"
        if not ranked:
            self.conclusion = f"{nothing}: the budget is too small, or every candidate failed"
            return
        why = "every candidate looked slower"
        for number, who in enumerate(ranked[:2], 1):
            if halving.gain(who) <= 0:
                continue
            verdict = halving.confirm(f"confirmation {number}", who)
            if verdict is None:
                if who in halving.failed:
                    why = f"{who} failed: {halving.failed[who]}"
                elif self.verdict is None:
                    why = f"there was no time to confirm {who}; give --budget-minutes more"
                continue
            found = outcome.judged(verdict)
            console.progress(f"{who}: {found['ratio']:.3f} ± {found['noise']:.3f} times the present one")
            self.verdict = self.verdict or {"name": who, **found}
            if not verdict.wins:
                why = f"{who} is {found['ratio']:.2f} ± {found['noise']:.2f} times the present one"
                continue
            if not self.objective.keeps_budget(outcome.medians(halving.looks[who])):
                why = f"{who} is better, but does not keep the latency budget"
                continue
            self.chosen, self.verdict = who, {"name": who, **found}
            self.conclusion = (
                f"{who} is {found['ratio']:.2f} ± {found['noise']:.2f} times as good as the present "
                f"configuration: {self.known[who].words()}"
            )
            return
        self.conclusion = f"{nothing}: {why}"

    def _sweep(self) -> None:
        """The chosen and the present one at every load, for the report, if there is time."""
        for who in [PRESENT, *([self.chosen] if self.chosen else [])]:
            window = min(0.5, max(0.15, self.lab.shortest))
            cost = 2 * len(self.objective.clients) * (3 * window + 0.3)
            if not self.journal.known(f"sweep of {who}") and self._left() < cost:
                return

            def sweep(who: str = who, window: float = window) -> Dict[str, Any]:
                loads = self.lab.sweep(who, window, self.objective.clients)
                return Look(who, 0.0, window, loads).as_json()

            self.sweeps[who] = Look.of(self.journal.once(f"sweep of {who}", sweep))

    def _found(self, halving: Halving) -> Dict[str, Any]:
        rows = []
        for name, candidate in self.known.items():
            if name in halving.failed:
                state, reason = "failed", halving.failed[name]
            elif name in self.lab.refused:
                state, reason = "refused", self.lab.refused[name]
            elif name in halving.looks:
                state, reason = "measured", ""
            elif name.startswith("e"):
                continue  # an engine that was ranked by trtexec, and is served by other candidates
            else:
                state, reason = "not measured", "no time"
            state = {self.chosen: "chosen", PRESENT: "present"}.get(name, state)
            looks = [*halving.looks.get(name, []), *([self.sweeps[name]] if name in self.sweeps else [])]
            gain = None if name == PRESENT or name not in halving.looks else halving.gain(name)
            rows.append(outcome.row(candidate, state, looks, gain, reason))
            if self.verdict and name == self.verdict["name"]:
                rows[-1]["ratio"] = self.verdict["ratio"]  # of looks that did not choose it
        chosen = self.known[self.chosen] if self.chosen else None
        return {
            "model": self.subject.model,
            "spec": self.subject.file,
            "release": self.subject.version,
            "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "machine": self.subject.identity(),
            "device": self.device,
            "objective": self.objective.kind,
            "aim": self.objective.words(),
            "clients": list(self.objective.clients),
            "latency_budget_ms": self.objective.budget_ms,
            "budget_seconds": self.clock.seconds,
            "seconds": round(self.journal.used(), 1),
            "noise": round(halving.noise, 4),
            "conclusion": self.conclusion,
            "confirmation": self.verdict,
            "chosen": self.chosen,
            "patch": chosen.changes if chosen else {},
            "patch_text": outcome.yaml_text(chosen.changes) if chosen else "",
            "settings": chosen.server if chosen else {},
            "engines": self.engines,
            "candidates": rows,
        }
