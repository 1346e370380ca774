"""Where candidates are measured: models laid out, scratch servers that load them, a meter that looks."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, Iterable, List, Optional, Tuple, Type

from ops.errors import OpsError
from ops.rollout import ask
from ops.runtimes.native import Native
from ops.tune.candidates import Candidate
from ops.tune.judge.halving import WINDOWS, LookFailedError
from ops.tune.judge.objective import Looks, Objective
from ops.tune.judge.statistics import PRESENT, Look
from ops.tune.measure.meter import Meter
from ops.tune.measure.scratch import Scratch
from ops.tune.subject import Subject

VERSION = 1  # of every candidate's model
_LOADED = 3  # models at once on a server: the present one and two candidates
_PRIME = 0.05  # seconds of a window of the requests that a model gets before its first look


class Lab:
    """A bench (halving.Bench), and a context manager: nothing of it runs afterwards.

    Args:
        folder: the scratch models volume and the servers' own folders.
        meter: what starts the meter, its options, and its environment.

    Attributes:
        fixed, switch, shortest: see halving.Bench.
        refused: why a candidate could not be laid out, by name.
    """

    def __init__(
        self, subject: Subject, runtime: Native, objective: Objective, folder: Path, meter: Meter
    ) -> None:
        self._subject = subject
        self._runtime = runtime
        self._objective = objective
        self._folder = folder
        self._meter = meter
        self._known: Dict[str, Candidate] = {}
        self._rows: Dict[str, Dict[str, Any]] = {}
        self._servers: Dict[str, Scratch] = {}
        self._started = 0
        self._used: Dict[str, float] = {}
        self.fixed = 0.25 * len(objective.loads())
        self.switch = 2.0 if runtime.device == "gpu" else 0.8
        self.shortest = 0.0
        self.refused: Dict[str, str] = {}

    @property
    def volume(self) -> Path:
        """The scratch models volume."""
        return self._folder / "volume"

    def lay_out(self, candidates: Iterable[Candidate]) -> List[Dict[str, Any]]:
        """Have the builder make what these need, unless it is there; its rows (builder/variants)."""
        wanted = {c.name: c for c in candidates}
        file = self._folder / "wanted.json"
        file.write_text(json.dumps({name: c.changes for name, c in wanted.items()}), "utf-8")
        engine = "tensorrt" if self._runtime.device == "gpu" else "onnxruntime"
        command = ["variants", self._subject.file, "--release", str(self._subject.release)]
        command += ["--wanted", str(file), "--engine", engine, "--models-dir", str(self.volume)]
        self._share_cache()
        rows: List[Dict[str, Any]] = ask(self._runtime, "builder", command)
        for row in rows:
            self.know(wanted[row["name"]], row)
        return rows

    def know(self, candidate: Candidate, row: Dict[str, Any]) -> None:
        """Take a candidate that was laid out, now or in an earlier session."""
        if row["ok"]:
            self._known[candidate.name] = candidate
            self._rows[candidate.name] = row
        else:
            self.refused[candidate.name] = row["error"]

    def engine_bytes(self, name: str) -> int:
        """The size of a candidate's engine."""
        return int(self._rows[name]["bytes"])

    def look(self, who: str, window: float) -> Look:
        """See halving.Bench. Raises OpsError where the present configuration itself cannot be measured."""
        return Look(who, *self._look(who, window, self._objective.loads()))

    def sweep(self, who: str, window: float, clients: Iterable[int]) -> Looks:
        """Look at these loads; raises as ``look`` does."""
        return self._look(who, window, list(clients))[2]

    def engine_speed(self, name: str, batch: int) -> Dict[str, Any]:
        """The candidate's engine without a server: trtexec's figures; raises LookFailedError."""
        row = self._rows[name]
        return self._meter.ask(ask="engine", engine=row["engine"], release=row["version"], batch=batch)

    def calibrate(self) -> Look:
        """The first look at the present configuration: how long windows have to be."""
        looked = self.look(PRESENT, 0.3)
        slowest = max(f["p50"] for f in looked.loads.values()) / 1e3
        self.shortest = 2.5 * slowest
        return looked

    def close_servers(self, keep: Iterable[Candidate]) -> None:
        """Stop the servers whose settings none of ``keep`` needs."""
        needed = {_key(c.server) for c in keep}
        for key in [k for k in self._servers if k not in needed]:
            self._servers.pop(key).close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        value: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        with contextlib.ExitStack() as stack:  # each is closed, whatever closing another one raises
            stack.callback(self._meter.close)
            for server in self._servers.values():
                stack.callback(server.close)

    def _look(self, who: str, window: float, clients: List[int]) -> Tuple[float, float, Looks]:
        self._subject.check_live()
        try:
            return self._attempt(who, window, clients)
        except LookFailedError as e:
            ended = self._forget_ended()
            if who != PRESENT:
                raise LookFailedError(
                    f"{e}; the scratch server ended with it: {ended}" if ended else str(e)
                ) from e
        try:  # once more: what came before it may have spoilt the server
            return self._attempt(who, window, clients)
        except LookFailedError as e:
            raise OpsError(f"the present configuration cannot be measured: {e}") from e

    def _forget_ended(self) -> str:
        """Close the servers that have ended, so that the next look starts them anew; one's last words."""
        words = ""
        for key in [k for k, server in self._servers.items() if not server.answers()]:
            server = self._servers.pop(key)
            words = server.last_words()
            server.close()
        return words

    def _attempt(self, who: str, window: float, clients: List[int]) -> Tuple[float, float, Looks]:
        server = self._serving(who)
        began = time.monotonic()
        figures = {n: self._figures(server, who, n, window) for n in clients}
        seconds = time.monotonic() - began
        if clients == self._objective.loads():
            extra = seconds - WINDOWS * window * len(clients)
            self.fixed += 0.3 * (max(0.1, extra) - self.fixed)
        return began + seconds / 2, window, figures

    def _figures(self, server: Scratch, who: str, clients: int, window: float) -> Dict[str, Any]:
        try:
            return self._ask(server, who, clients, window)
        except LookFailedError:
            # Too short for a request to end, where this one is much slower than the present one.
            return self._ask(server, who, clients, 4 * window + 0.2)

    def _ask(self, server: Scratch, who: str, clients: int, window: float) -> Dict[str, Any]:
        row = self._rows[who]
        return self._meter.ask(
            ask="look",
            engine=row["engine"],
            release=row["version"],
            model=who,
            version=VERSION,
            grpc=server.grpc,
            clients=clients,
            window=window,
        )

    def _serving(self, who: str) -> Scratch:
        """The candidate's server, with its model loaded and warm."""
        server = self._server(self._known[who])
        self._used[who] = time.monotonic()
        if who in server.loaded:
            return server
        others = sorted((n for n in server.loaded if n != PRESENT), key=lambda n: self._used.get(n, 0.0))
        while len(others) > _LOADED - 2:
            server.unload(others.pop(0))
        began = time.monotonic()
        server.load(who)
        with contextlib.suppress(LookFailedError):
            self._ask(server, who, max(self._objective.loads()), _PRIME)
        self.switch += 0.3 * (time.monotonic() - began - self.switch)
        return server

    def _server(self, candidate: Candidate) -> Scratch:
        key = _key(candidate.server)
        if key not in self._servers:
            self._started += 1
            folder = self._folder / f"server{self._started}"
            shutil.rmtree(folder, ignore_errors=True)
            repository = self.volume / "repository"
            self._servers[key] = Scratch(self._runtime, repository, folder, candidate.server)
        return self._servers[key]

    def _share_cache(self) -> None:
        """The live volume's cache is the scratch volume's too: what a build keeps there serves both."""
        self.volume.mkdir(parents=True, exist_ok=True)
        link = self.volume / "cache"
        self._subject.volume.cache.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(self._subject.volume.cache)


def _key(settings: Dict[str, str]) -> str:
    return json.dumps(settings, sort_keys=True)
