"""What the agent does to its node: pull, make live with proof, settle, measure."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable, cast

from ops import operation_lock, rollout
from ops.errors import OpsError
from ops.runtimes.base import Runtime
from ops.settings import Settings

from cluster.agent import metrics
from cluster.agent.runtime import NodeRuntime
from models_volume import manifest
from models_volume.errors import VolumeError
from models_volume.layout import PENDING, Volume

_PATIENCE = 120.0  # seconds beyond poll and load that somebody else's proof is left alone


class BusyError(Exception):
    """An operator is at work on this node; the text names them."""


class Node:
    """One node's models volume and servers."""

    def __init__(self, settings: Settings, runtime: NodeRuntime) -> None:
        self._settings = settings
        self._runtime = runtime
        self._volume = Volume(settings.models_dir)
        # What a rollout uses of a runtime, and not what `up` and `down` do.
        self._rollout = rollout.Rollout(cast(Runtime, runtime), settings)
        self._windows: dict[str, metrics.Window] = {}
        self._seen: dict[str, tuple[int, float]] = {}  # by model: its pending mark, since when

    @property
    def held(self) -> str:
        """What cluster/hold says, where the operator has put that file; else empty."""
        try:
            words = (Path(self._settings.models_dir) / "cluster" / "hold").read_text("utf-8", "replace")
        except OSError:
            return ""
        return words.strip() or "cluster/hold is there"

    def live(self, model: str) -> int | None:
        """The live local release; raises OSError."""
        return self._volume.live(model)

    def missing(self) -> str:
        """Which servers do not answer, in words; empty where all do."""
        try:
            self._runtime.places()
        except OpsError as e:
            return e.found
        gone = self._runtime.missing()
        return f"Triton does not answer: {', '.join(gone)}" if gone else ""

    def unsettled(self, model: str, *, ours: bool) -> bool:
        """Whether a pending change is there that is the agent's to settle: its own at once, somebody else's
        when it has stayed longer than any proof takes, by a clock that does not jump."""
        try:
            mark = (self._volume.of_model(model) / PENDING).stat().st_mtime_ns
        except OSError:
            self._seen.pop(model, None)
            return False
        known, since = self._seen.get(model, (0, 0.0))
        if known != mark:
            since = time.monotonic()
            self._seen[model] = (mark, since)
        limit = self._runtime.poll_secs + self._settings.load_secs + _PATIENCE
        return ours or time.monotonic() - since > limit

    def pending(self, model: str) -> bool:
        """Whether a change is not settled."""
        return self._volume.pending(model)

    def settle(self) -> None:
        """Prove what is pending, or go back; raises OpsError, BusyError."""
        self._locked("settling", self._rollout.settle)

    def pull(self, model: str, digest: str, beat: Callable[[], None]) -> dict[str, Any]:
        """A release onto the volume, not live; the puller's answer. Raises OpsError, BusyError."""

        class Pull:
            """``rollout.ask`` over a command that is followed."""

            @staticmethod
            def ask(part: str, args: list[str]) -> tuple[int, str]:
                return self._runtime.follow(part, args, beat)

        try:
            answer = rollout.ask(Pull, "cluster", ["pull", model, digest])  # type: ignore[arg-type]
        except OpsError as e:
            if e.kind == "LockedError":  # somebody builds here: no fault of the release
                raise BusyError(e.found) from e
            raise
        if not isinstance(answer, dict) or not isinstance(answer.get("version"), int):
            raise OpsError("the pull ended without the number of a release")
        return answer

    def go(self, model: str, version: int) -> None:
        """Make a local release live and prove it on every server; what was live is live again when that
        fails. Raises OpsError, BusyError, and KeyboardInterrupt when the agent is to end."""
        stale = next((r for p in self._runtime.places() if (r := p.server.reason(model, version))), "")

        def change() -> None:
            self._rollout.rollback(model, version, force=True, stale=stale)

        self._locked(f"{model}: release {version}", change)

    def servers(self) -> list[dict[str, Any]]:
        """As a report has them."""
        try:
            places = self._runtime.places()
        except OpsError:
            return []
        return [{"name": p.name, "http": f"{p.host}:{p.http}", "grpc": f"{p.host}:{p.grpc}"} for p in places]

    def measure(self, model: str) -> dict[str, Any]:
        """Look at the servers' counters, probe once, and give the figures."""
        window = self._windows.setdefault(model, metrics.Window())
        version = self.live(model)
        window.of(version)
        if version is not None:
            try:
                places = self._runtime.places()
            except OpsError:
                places = []
            metrics.look(window, places, self._settings.models_dir, model, version)
        return window.figures()

    def engine(self, model: str) -> dict[str, Any]:
        """What made the live release; only the device's engine where nothing is live."""
        version = self.live(model)
        try:
            made = manifest.read(self._volume, model, version).engine if version is not None else {}
        except VolumeError:
            made = {}
        gpu = made.get("gpu") or {}
        name = made.get("name") or ("tensorrt" if self._runtime.device == "gpu" else "onnxruntime")
        return {
            "name": name,
            "gpu": gpu.get("name"),
            "compute_capability": gpu.get("compute_capability"),
            "tensorrt": made.get("version") if name == "tensorrt" else None,
        }

    def _locked(self, what: str, act: Callable[[], None]) -> None:
        lock = operation_lock.held(self._settings, f"agent, {what}")
        try:
            lock.__enter__()
        except OpsError as e:
            raise BusyError(e.found) from e
        try:
            act()
        except OpsError as e:
            # A rollout that is interrupted goes back and says that the release failed; it did not.
            if isinstance(e.__cause__, KeyboardInterrupt):
                raise KeyboardInterrupt from e
            if e.kind == "LockedError":
                raise BusyError(e.found) from e
            raise
        finally:
            lock.__exit__(None, None, None)
