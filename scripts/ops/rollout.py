"""A change of what is live: flip, prove, and back again when it does not hold.

The new release goes live pending; the client waits until the server answers with that very version and
sends it the golden samples; then it is confirmed. Whatever goes wrong before that, the old release goes
live again and is seen to answer before this returns.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from typing import Any, Dict, Iterator, List, Optional

from ops import console, hooks
from ops.errors import OpsError
from ops.runtimes.base import Runtime
from ops.settings import Settings

_LOOK = 0.1  # seconds between two looks at a server
_WORDS = 8  # of the server's own lines, to show with a failure


class Rollout:
    """Changes the live release of models served by ``runtime``.

    Args:
        quiet_gpu: minutes that a build may wait for a GPU that nobody uses; None does not wait.
    """

    def __init__(self, runtime: Runtime, settings: Settings, *, quiet_gpu: Optional[float] = None) -> None:
        self._runtime = runtime
        self._quiet_gpu = quiet_gpu
        self._settings = settings
        # How long a release may take from the flip until it answers: one poll, and its load. Two seconds
        # of it are for starting the commands that look and go back.
        self._deadline = runtime.poll_secs + max(1, settings.load_secs - 2)
        # A polite end (systemd, a CI's cancel) goes the same way back as Ctrl-C.
        signal.signal(signal.SIGTERM, _interrupt)

    def up(self, specs: List[str], *, force: bool) -> List[str]:
        """Build each spec's release and have it served: under a running server each is proven before the
        next, otherwise all are built first, and proven once the server is there. The models' names.

        Raises:
            OpsError: a build or a proof failed; what was live before is live.
        """
        if self._running():
            if self._runtime.missing():
                self._runtime.start()
            self.settle()
            return [self.build(spec, force=force)["model"] for spec in specs]
        names = []
        for spec in specs:
            row = self._published(spec, force=force)
            names.append(row["model"])
            if row["version"] != row["live"]:
                self._activate(row)
        self._runtime.start()
        self.settle()
        return names

    def settle(self) -> None:
        """End what a change that died has left pending: prove it now, or go back."""
        if not any(model["pending"] for model in self._runtime.snapshot().values()):
            return
        for row in self.releases():
            if not row["pending"]:
                continue
            model, version = row["model"], row["version"]
            if row["reason"]:  # somebody died while going back, or its manifest cannot be read
                self._back(model, version, row.get("previous"), row["reason"])
                continue
            console.progress(f"{model}: release {version} is live and not proven yet")
            self._prove_or_revert(model, version, row.get("previous"))

    def build(self, spec: str, *, force: bool) -> Dict[str, Any]:
        """Build a spec's release, make it live and prove it; what was done, as the builder says it: its
        "action" is "unchanged" when nothing had to be done, and "reactivated" when a release that was there
        went live again.

        Raises:
            OpsError: it failed; what was live before is live and answers.
        """
        row = self._published(spec, force=force)
        model, version = row["model"], row["version"]
        if version == row["live"]:
            console.progress(f"{model}: unchanged; release {version} stays live")
            return row
        previous = self._activate(row)["previous"]
        self._prove_or_revert(model, version, previous)
        action = "built" if row["action"] == "built" else "reactivated"
        return {**row, "action": action, "live": version, "previous": previous}

    def rollback(self, model: str, version: Optional[int], *, force: bool, stale: str = "") -> Dict[str, Any]:
        """Make an older release live (the newest proven one below the live one without ``version``), and
        prove it.

        Args:
            force: even a release that is marked failed.
            stale: what Triton says of that version before the flip, from an earlier attempt with it.

        Raises:
            OpsError: it failed; what was live before is live and answers.
        """
        command = ["rollback", model, *([] if version is None else ["--to", str(version)])]
        row = self._flip(model, [*command, *(["--force"] if force else [])])
        if row["pending"]:
            self._prove_or_revert(model, row["version"], row["previous"], stale)
        else:
            console.progress(f"{model}: the models volume takes no writing: release {row['version']} is live")
            self._answers(model, row["version"], f"{model}: rolled back")
        return row

    def retire(self, model: str) -> Optional[int]:
        """Take a model off the server, and wait until it has gone there; returns what was live.

        Raises:
            OpsError: there is no such model, it is live still, or the server keeps it.
        """
        row = self._builder(["retire", model])
        version: Optional[int] = row["previous"]
        if version is None or not self._running():
            return version
        console.progress(f"{model}: waiting for the server to drop it (at most {self._deadline} s)")
        end = time.monotonic() + self._deadline
        while any(place.server.ready(model, version) for place in self._runtime.places()):
            if time.monotonic() > end:
                raise OpsError(
                    f"{model} is not live any more, but the server still answers with version {version}",
                    remedy="./scripts/down and ./scripts/up: the server has stopped polling",
                )
            time.sleep(_LOOK)
        return version

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

    def _running(self) -> bool:
        return bool(self._runtime.status()["server"]["state"] == "running")

    def _published(self, spec: str, *, force: bool) -> Dict[str, Any]:
        options = build_options(self._runtime, force=force)
        if self._quiet_gpu is not None and self._runtime.device == "gpu":
            options.append(f"--quiet-gpu={self._quiet_gpu:g}")
        row: Dict[str, Any] = self._builder(["build", spec, *options])[0]
        return row

    def _activate(self, row: Dict[str, Any]) -> Dict[str, Any]:
        """Make a published release live, pending."""
        return self._flip(row["model"], ["activate", row["model"], str(row["version"])])

    def _flip(self, model: str, command: List[str]) -> Dict[str, Any]:
        """Run a builder's command that flips. When it does not end well, by itself or because we were
        interrupted, what it may have made live goes back."""
        engine = "tensorrt" if self._runtime.device == "gpu" else "onnxruntime"
        try:
            row: Dict[str, Any] = self._builder([*command, "--pending", "--engine", engine])
        except (OpsError, KeyboardInterrupt) as e:
            self._back(model, None, None, _cause(e))
            raise
        return row

    def _prove_or_revert(self, model: str, version: int, previous: Optional[int], stale: str = "") -> None:
        began = time.monotonic()
        console.progress(
            f"{model}: waiting for Triton to load version {version}: it looks every "
            f"{self._runtime.poll_secs} s, and has {self._deadline} s; then golden samples"
        )
        try:
            figures = self._prove(model, version, stale)
            self._builder(["confirm", model])
        except (OpsError, KeyboardInterrupt) as e:
            cause = _cause(e)
            words = self._runtime.log_tail()[-_WORDS:]  # before those of the way back
            back = self._back(model, version, previous, cause)
            raise OpsError(
                f"{model}: release {version} failed: {cause}",
                details="\n".join(words),
                remedy="it is kept for inspection and marked failed: ./scripts/releases; live is "
                f"{f'release {back}, which answers' if back else 'nothing, as before'}",
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

    def _back(self, model: str, version: Optional[int], previous: Optional[int], cause: str) -> Optional[int]:
        """Go back, and see the old release answer; returns what is live. The hook runs in any case.

        Args:
            version: the release that failed; None where it is not known whether anything is pending.

        Raises:
            OpsError: the link could not be replaced, or the old release does not answer; the first line
                says what is live now.
        """
        if version is not None:
            console.progress(f"{model}: release {version} failed; going back to {previous or 'nothing'}")
        flipped = True  # as far as is known
        try:
            with _uninterrupted():
                done = self._revert(model, version, cause)
            flipped = done["version"] is not None
            if not flipped:
                return previous
            version, previous = done["version"], done["live"]
            if previous is not None:
                self._answers(model, previous, f"{model}: release {version} failed: {cause}")
        finally:
            if flipped:
                hooks.run(
                    "failed-redeploy",
                    self._settings,
                    must_succeed=False,
                    model=model,
                    version=version,
                    previous=previous,
                    reason=cause,
                )
        return previous

    def _revert(self, model: str, version: Optional[int], cause: str) -> Dict[str, Any]:
        """The builder's ``revert``, tried twice: what kept it the first time may have been passing."""
        for last in (False, True):
            try:
                done: Dict[str, Any] = self._builder(["revert", model, "--if-pending", "--reason", cause])
            except OpsError as e:
                if last:
                    which = "a release" if version is None else f"release {version}"
                    raise OpsError(
                        f"{model}: {which} failed: {cause}; live now: {self._live(model)}; going back "
                        f"failed: {e.found}",
                        details=e.details,
                        remedy=e.remedy or "./scripts/redeploy goes back",
                    ) from e
            else:
                break
        if done["version"] is None and version is not None:
            done["version"] = version  # the first attempt got as far as the flip
        return done

    def _live(self, model: str) -> str:
        try:
            version = self._runtime.snapshot().get(model, {}).get("live")
        except Exception:  # noqa: BLE001  (the disk's, or the Docker SDK's)
            return "unknown"
        return f"release {version}" if version else "nothing"

    def _answers(self, model: str, version: int, failed: str) -> None:
        """See that a release answers; raises OpsError that begins with ``failed`` and says what is live."""
        reason = "the server does not run"
        try:
            if self._running():
                self._prove(model, version)
                return
        except OpsError as e:
            reason = e.found
        except Exception as e:  # noqa: BLE001  (the Docker SDK's, with the engine gone)
            reason = str(e)
        raise OpsError(
            f"{failed}; live now: release {version}, which does not answer: {reason}",
            remedy="./scripts/status; ./scripts/up starts a server that has stopped; one that is stuck wants "
            "./scripts/down first",
        )

    def _prove(self, model: str, version: int, stale: str = "") -> Dict[str, Any]:
        options = ["--deadline", str(self._deadline), *([f"--stale={stale}"] if stale else [])]
        figures: Dict[str, Any] = {}
        for place in self._runtime.places():
            try:
                found = self._ask("client", ["prove", model, str(version), *options, *place.options])
            except OpsError as e:
                if place.name:
                    raise OpsError(f"{place.name}: {e.found}", details=e.details, remedy=e.remedy) from e
                raise
            figures = {key: round(figures.get(key, 0) + number, 3) for key, number in found.items()}
        return figures

    def _builder(self, args: List[str]) -> Any:
        return self._ask("builder", args)

    def _ask(self, part: str, args: List[str]) -> Any:
        return ask(self._runtime, part, args)


def ask(runtime: Runtime, part: str, args: List[str]) -> Any:
    """A command's answer as JSON; its error as OpsError."""
    try:
        code, text = runtime.ask(part, [*args, "--json"])
    except OSError as e:
        raise OpsError(f"the {part} could not be started: {e.strerror or e}") from e
    try:
        answer = json.loads(text)
    except ValueError as e:
        raise OpsError(f"the {part} ended with code {code} and no answer (its own words are above)") from e
    if isinstance(answer, dict) and "error" in answer:
        raise OpsError.from_answer(answer["error"])
    return answer


def _cause(e: BaseException) -> str:
    return e.found if isinstance(e, OpsError) else "interrupted"


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
    missing = runtime.missing()
    if missing:
        names = ", ".join(missing)
        raise OpsError(f"not every server on this machine answers: {names}", remedy="./scripts/up")


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Signals that ask for an end are not heard, here and in the commands started meanwhile."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
