"""A change of what is live: flip, prove, and back again when it does not hold.

The new release goes live pending; the client waits until the server answers with that very version and
sends it the golden samples; then it is confirmed. Whatever goes wrong before that, the old release goes
live again and is seen to answer before this returns.
"""

from __future__ import annotations

import json
import signal
import time
from typing import Any, Dict, List, Optional

from ops import console, hooks
from ops.errors import OpsError
from ops.runtimes.base import Runtime
from ops.settings import Settings

_WORDS = 8  # of the server's own lines, to show with a failure


class Rollout:
    """Changes the live release of models served by ``runtime``."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self._runtime = runtime
        self._settings = settings
        # How long a release may take from the flip until it answers: one poll, and its load. Two seconds
        # of it are for starting the commands that look and go back.
        self._deadline = settings.poll_secs + max(1, settings.load_secs - 2)
        # A polite end (systemd, a CI's cancel) goes the same way back as Ctrl-C.
        signal.signal(signal.SIGTERM, _interrupt)

    def up(self, specs: List[str], *, force: bool) -> None:
        """Build each spec's release and have it served: under a running server each is proven before the
        next, otherwise all are built first, and proven once the server is there.

        Raises:
            OpsError: a build or a proof failed; what was live before is live.
        """
        if self._runtime.status()["server"]["state"] == "running":
            self.settle()
            for spec in specs:
                self.build(spec, force=force)
            return
        for spec in specs:
            options = build_options(self._runtime, force=force)
            self._builder(["build", spec, "--activate", "pending", *options])
        self._runtime.start()
        self.settle()

    def settle(self) -> None:
        """End what a change that died has left pending: prove it now, or go back."""
        if not any(model["pending"] for model in self._runtime.snapshot().values()):
            return
        for row in self.releases():
            if row["state"] != "pending":
                continue
            model, version = row["model"], row["version"]
            if row["reason"]:  # somebody died while going back
                self._back(model, version, row.get("previous"), row["reason"])
                continue
            console.progress(f"{model}: release {version} is live and not proven yet")
            self._prove_or_revert(model, version, row.get("previous"))

    def build(self, spec: str, *, force: bool) -> Dict[str, Any]:
        """Build a spec's release, make it live and prove it; what was done, as the builder says it: its
        "action" is "unchanged" when nothing had to be done.

        Raises:
            OpsError: it failed; what was live before is live and answers.
        """
        options = build_options(self._runtime, force=force)
        row: Dict[str, Any] = self._or_back(["build", spec, "--activate", "pending", *options])[0]
        model, version = row["model"], row["version"]
        if row["action"] == "unchanged":
            console.progress(f"{model}: unchanged; release {version} stays live")
            return row
        self._prove_or_revert(model, version, row["previous"])
        return row

    def flip(self, command: List[str], *, stale: str = "") -> Dict[str, Any]:
        """Run the builder's ``publish`` or ``rollback`` and prove what it made live.

        Args:
            stale: what Triton says of that version before the flip, from an earlier attempt with it.

        Raises:
            OpsError: it failed; what was live before is live and answers.
        """
        engine = "tensorrt" if self._runtime.device == "gpu" else "onnxruntime"
        row: Dict[str, Any] = self._or_back([*command, "--pending", "--engine", engine])
        self._prove_or_revert(row["model"], row["version"], row["previous"], stale)
        return row

    def dry_run(self, spec: str) -> Dict[str, Any]:
        """What ``build`` would do; changes nothing."""
        row: Dict[str, Any] = self._builder(
            ["build", spec, "--dry-run", *build_options(self._runtime, force=False)]
        )[0]
        return row

    def releases(self) -> List[Dict[str, Any]]:
        """Every release with its state and manifest."""
        rows: List[Dict[str, Any]] = self._builder(["releases"])
        return rows

    def prune(self, models: List[str], keep: int) -> List[Dict[str, Any]]:
        """Remove old releases; what was removed."""
        rows: List[Dict[str, Any]] = self._builder(["prune", *models, "--keep", str(keep)])
        return rows

    def _or_back(self, args: List[str]) -> Any:
        """Run a builder's command that flips; interrupted after its flip, go back before ending."""
        try:
            return self._builder(args)
        except KeyboardInterrupt:
            for row in self.releases():
                if row["state"] == "pending":
                    self._back(row["model"], row["version"], row.get("previous"), "interrupted")
            raise

    def _prove_or_revert(self, model: str, version: int, previous: Optional[int], stale: str = "") -> None:
        began = time.monotonic()
        console.progress(
            f"{model}: waiting for version {version} to answer (at most {self._deadline} s), "
            "then golden samples"
        )
        try:
            figures = self._prove(model, version, stale)
            self._builder(["confirm", model])
        except (OpsError, KeyboardInterrupt) as e:
            cause = e.found if isinstance(e, OpsError) else "interrupted"
            words = self._runtime.log_tail()[-_WORDS:]  # before those of the way back
            self._back(model, version, previous, cause)
            raise OpsError(
                f"{model}: release {version} failed: {cause}",
                details="\n".join(words),
                remedy="it is kept for inspection and marked failed: ./scripts/releases; live is "
                f"{f'release {previous}, which answers' if previous else 'nothing, as before'}",
            ) from e
        console.progress(
            f"{model}: release {version} is live and proven: ready after {figures['ready_seconds']:.1f} s, "
            f"{figures['requests']} golden requests in {figures['prove_seconds']:.1f} s, "
            f"{time.monotonic() - began:.1f} s in all"
        )
        hooks.run(
            "post-redeploy",
            self._settings,
            must_succeed=False,
            model=model,
            version=version,
            previous=previous,
        )

    def _back(self, model: str, version: int, previous: Optional[int], cause: str) -> None:
        console.progress(f"{model}: release {version} failed; going back to {previous or 'nothing'}")
        self._builder(["revert", model, "--reason", cause])
        try:
            if previous is not None:
                self._prove(model, previous)
        except OpsError as e:
            raise OpsError(
                f"{model}: release {version} failed: {cause}; and release {previous}, live again, does not "
                f"answer: {e.found}",
                remedy="./scripts/status; restart the server if it is stuck",
            ) from e
        finally:
            hooks.run(
                "failed-redeploy",
                self._settings,
                must_succeed=False,
                model=model,
                version=version,
                previous=previous,
                reason=cause,
            )

    def _prove(self, model: str, version: int, stale: str = "") -> Dict[str, Any]:
        options = ["--deadline", str(self._deadline), *([f"--stale={stale}"] if stale else [])]
        figures: Dict[str, Any] = self._ask("client", ["prove", model, str(version), *options])
        return figures

    def _builder(self, args: List[str]) -> Any:
        return self._ask("builder", args)

    def _ask(self, part: str, args: List[str]) -> Any:
        """A command's answer as JSON; its error as OpsError."""
        code, text = self._runtime.ask(part, [*args, "--json"])
        try:
            answer = json.loads(text)
        except ValueError as e:
            raise OpsError(
                f"the {part} ended with code {code} and no answer (its own words are above)"
            ) from e
        if isinstance(answer, dict) and "error" in answer:
            raise OpsError.from_answer(answer["error"])
        return answer


def build_options(runtime: Runtime, *, force: bool) -> List[str]:
    """The builder's options for a runtime's device."""
    gpu = runtime.device == "gpu"
    options = ["--engine", "tensorrt" if gpu else "onnxruntime"]
    # A rehearsal may go on without ImageNet's weights; a GPU deployment may not.
    options += [] if gpu else ["--allow-untrained"]
    return [*options, "--force"] if force else options


def serving(runtime: Runtime) -> None:
    """Raise OpsError unless the server answers: there is nothing to prove a change on otherwise."""
    state = runtime.status()["server"]["state"]
    if state != "running":
        raise OpsError(f"the server is {state}", remedy="./scripts/up")


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
