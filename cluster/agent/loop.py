"""The agent's loop: read what is wanted, bring the node there, report."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Protocol

from ops.errors import OpsError

from cluster.agent import share
from cluster.agent.memory import Memory
from cluster.agent.node import BusyError
from cluster.state.store import Document, StateStore
from cluster.state.wanted import wanted

_WAITS = (5.0, 300.0)  # seconds until a pull that failed without a rollout is tried again: first, at most


class Local(Protocol):
    """What the loop does to its node: see ``cluster.agent.node.Node``."""

    @property
    def held(self) -> str: ...  # noqa: D102
    def live(self, model: str) -> int | None: ...  # noqa: D102
    def missing(self) -> str: ...  # noqa: D102
    def pending(self, model: str) -> bool: ...  # noqa: D102
    def unsettled(self, model: str, *, ours: bool) -> bool: ...  # noqa: D102
    def settle(self) -> None: ...  # noqa: D102
    def pull(self, model: str, digest: str, beat: Callable[[], None]) -> dict[str, Any]: ...  # noqa: D102
    def go(self, model: str, version: int) -> None: ...  # noqa: D102
    def servers(self) -> list[dict[str, Any]]: ...  # noqa: D102
    def measure(self, model: str) -> dict[str, Any]: ...  # noqa: D102
    def engine(self, model: str) -> dict[str, Any]: ...  # noqa: D102


class Agent:
    """Keeps the models of one node at what the cluster wants.

    Args:
        repositories: by model, its repository in the registry; called at each look.
        say: writes a line of the log: an event, and its facts.
        clock: seconds that never go back; wall time is only written, never compared.
    """

    def __init__(
        self,
        node: str,
        repositories: Callable[[], dict[str, str]],
        store: StateStore,
        local: Local,
        models_dir: Path,
        *,
        say: Callable[..., None],
        report_secs: float = 30.0,
        version: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node, self._repositories, self._store, self._local = node, repositories, store, local
        self._models_dir, self._say, self._clock = models_dir, say, clock
        self._memory = Memory(models_dir)
        self._report_secs, self._version = report_secs, version
        self._unreachable = False  # the registry, in this look
        self._documents: dict[str, Document] = {}  # the last readable ones
        self._said: dict[str, str] = {}
        self._reports: dict[str, tuple[Document, float]] = {}  # what was written last, and when
        self._since: dict[str, tuple[str, str]] = {}
        self._retry: dict[str, tuple[str, float, float]] = {}  # digest, when, how long it was waited

    def step(self) -> None:
        """One look at every model. Raises nothing but KeyboardInterrupt."""
        self._unreachable = False
        for model, repo in self._repositories().items():
            try:
                self._model(model, repo)
            except Exception as e:  # noqa: BLE001  (one model's trouble must not keep the others waiting)
                self._once(f"{model} trouble", "failed", model=model, reason=_words(e))
            else:
                self._over(f"{model} trouble", "recovered", model=model)
        try:
            share.write(self._models_dir, self._documents)
        except OSError as e:
            self._once("traffic", "traffic_not_written", reason=_words(e))
        else:
            self._over("traffic", "traffic_written")
        if self._memory.trouble:
            self._once("memory", "memory_not_written", reason=self._memory.trouble)

    def _model(self, model: str, repo: str) -> None:
        if self._settle(model, repo):
            return
        if self._unreachable:  # each model would wait as long for nothing
            self._local.measure(model)
            return
        try:
            found = self._store.read(repo, "rollout")
            live = self._store.digest(repo, "live")
        except Exception as e:  # noqa: BLE001  (a registry fails in many ways, and the node serves on in each)
            self._registry_down(e)
            self._local.measure(model)
            return
        self._over("registry", "registry_back")
        document = None if found is None else found[1]
        try:
            digest = wanted(document, live, self._node)
            change = _change(document, digest)
        except (ValueError, KeyError, TypeError) as e:
            reason = f"the rollout document cannot be used: {e!r}"
            self._once(f"{model} document", "broken_document", model=model, reason=reason)
            self._report(model, repo, {"state": self._idle(model), "reason": reason})
            return
        self._over(f"{model} document", "document_readable", model=model)
        self._documents.pop(model, None)
        if document is not None:
            self._documents[model] = document
        self._bring(model, repo, change)

    def _settle(self, model: str, repo: str) -> bool:
        """End what a kill has left pending, before anything else; whether it is still there."""
        begun = self._memory.changing(model)
        if not self._local.unsettled(model, ours=begun is not None):
            if begun is not None and not self._local.pending(model):
                self._memory.end(model, self._memory.failed(model))  # killed before or after its flip
            return self._local.pending(model)  # an operator's proof: left alone
        why = self._local.missing()
        if why:  # a proof would fail for the server's sake
            self._once("servers", "unreachable_server", reason=why)
            self._report(model, repo, {"state": "unreachable_server", "reason": why})
            return True
        self._say("settling", model=model)
        try:
            self._local.settle()
        except BusyError as e:
            self._once(f"{model} busy", "operator_at_work", model=model, reason=str(e))
            return True
        except OpsError as e:
            self._say("failed", model=model, reason=e.found)
            if self._local.pending(model):  # it could not go back: tried again at the next look
                return True
            if begun is not None and self._local.live(model) != begun.get("version"):
                self._memory.end(model, {**begun, "reason": e.found})
                return False
            # else the trouble is another model's, which was settled in the same go
        self._memory.end(model, self._memory.failed(model))
        self._say("settled", model=model, release=self._local.live(model))
        return False

    def _bring(self, model: str, repo: str, change: dict[str, Any]) -> None:
        digest, more = change["digest"], {"wanted": change["digest"], **change}
        more.pop("digest")
        why = self._local.missing()
        if why:
            self._once("servers", "unreachable_server", reason=why)
            self._report(model, repo, {**more, "state": "unreachable_server", "reason": why})
            return
        self._over("servers", "servers_back")
        if digest is None or digest in self._memory.digests(model, self._local.live(model)):
            reason = "nothing is wanted here" if digest is None and self._local.live(model) else ""
            self._report(model, repo, {**more, "state": self._idle(model), "reason": reason})
            return
        failed = self._memory.failed(model)
        if failed and all(failed.get(key) == value for key, value in change.items()):
            facts = {"state": "failed", "failed": digest, "reason": str(failed.get("reason", ""))}
            self._report(model, repo, {**more, **facts})
            return
        if self._local.held:
            reason = f"held: {self._local.held}"
            self._once(f"{model} held", "held", model=model, wanted=digest, reason=reason)
            self._report(model, repo, {**more, "state": self._idle(model), "reason": reason})
            return
        if not self._waits(model, digest):
            self._change(model, repo, change, more)

    def _change(self, model: str, repo: str, change: dict[str, Any], more: Document) -> None:
        """Pull, make live, prove; whatever fails is reported and leaves what was live live."""
        digest = change["digest"]
        self._say("differs", model=model, wanted=digest, live=self._digest(model))

        def beat() -> None:
            self._report(model, repo, {**more, "state": "pulling"})

        beat()
        try:
            pulled = self._local.pull(model, digest, beat)
        except BusyError as e:
            self._once(f"{model} busy", "operator_at_work", model=model, reason=str(e))
            return
        except OpsError as e:
            self._pull_failed(model, repo, change, more, e)
            return
        self._retry.pop(model, None)
        version = int(pulled["version"])
        self._memory.pulled(model, digest, version)
        self._say("pulled", **{**pulled, "model": model})
        if version != self._local.live(model):  # else: the same release under another digest
            self._report(model, repo, {**more, "state": "proving"})
            self._memory.begin(model, {**change, "version": version})
            try:
                self._local.go(model, version)
            except BusyError as e:
                self._memory.end(model, self._memory.failed(model))
                self._once(f"{model} busy", "operator_at_work", model=model, reason=str(e))
                return
            except OpsError as e:
                self._failed(model, repo, change, more, e.found)
                return
        self._memory.end(model)
        self._over(f"{model} busy", "operator_done", model=model)
        self._say("serving", model=model, digest=digest, release=version)
        self._report(model, repo, {**more, "state": "serving"})

    def _pull_failed(
        self, model: str, repo: str, change: dict[str, Any], more: Document, e: OpsError
    ) -> None:
        """In a rollout a failure is final for this attempt, and its driver decides; without one nobody
        would, so it is tried again, less and less often. A registry that is away is waited for in both."""
        if change["rollout"] and e.kind != "unreachable":
            self._failed(model, repo, change, more, e.found)
            return
        digest = change["digest"]
        known, _, waited = self._retry.get(model, ("", 0.0, 0.0))
        secs = min(_WAITS[1], waited * 2) if known == digest and waited else _WAITS[0]
        self._retry[model] = (digest, self._clock() + secs, secs)
        self._say("pull_failed", model=model, wanted=digest, reason=e.found, again_in=secs)
        self._report(model, repo, {**more, "state": "pulling", "reason": e.found})

    def _waits(self, model: str, digest: str) -> bool:
        known, when, _ = self._retry.get(model, ("", 0.0, 0.0))
        return known == digest and self._clock() < when

    def _failed(self, model: str, repo: str, change: dict[str, Any], more: Document, reason: str) -> None:
        self._memory.end(model, {**change, "reason": reason})
        self._say("failed", model=model, wanted=change["digest"], live=self._digest(model), reason=reason)
        facts = {"state": "failed", "failed": change["digest"], "reason": reason}
        self._report(model, repo, {**more, **facts})

    def _idle(self, model: str) -> str:
        return "no_release" if self._local.live(model) is None else "serving"

    def _digest(self, model: str) -> str | None:
        """What is live, as the cluster calls it; None where it came from elsewhere."""
        known = self._memory.digests(model, self._local.live(model))
        return known[-1] if known else None

    def _report(self, model: str, repo: str, facts: Document) -> None:
        """Write the node's report where it says something new, or the last one has grown old."""
        version = self._local.live(model)
        known = self._memory.digests(model, version)
        live = facts.get("wanted") if facts.get("wanted") in known else self._digest(model)
        report: Document = {
            "schema": 1,
            "node": self._node,
            "agent": self._version,
            "engine": self._local.engine(model),
            "live": live,
            "local": version,
            "wanted": None,
            "rollout": "",
            "attempt": 0,
            "failed": None,
            "reason": "",
            **facts,
            "servers": self._local.servers(),
        }
        state = f"{report['state']} {report['wanted']} {report['live']}"
        if self._since.get(model, ("",))[0] != state:
            self._since[model] = (state, _now())
        report["since"] = self._since[model][1]
        figures = self._local.measure(model)
        last, when = self._reports.get(model, ({}, 0.0))
        if last == report and self._clock() - when < self._report_secs:
            return
        try:
            self._store.write(repo, f"node-{self._node}", {**report, "time": _now(), "metrics": figures})
        except Exception as e:  # noqa: BLE001  (as for reading: it is written with the next look)
            self._registry_down(e)
            return
        self._reports[model] = (report, self._clock())

    def _registry_down(self, e: Exception) -> None:
        self._once("registry", "registry_down", reason=_words(e))
        self._unreachable = getattr(e, "kind", "") == "unreachable"

    def _once(self, what: str, event: str, **facts: Any) -> None:
        """Say it when it begins, and not at every look."""
        if what not in self._said:
            self._said[what] = event
            self._say(event, **facts)

    def _over(self, what: str, event: str, **facts: Any) -> None:
        if self._said.pop(what, None) is not None:
            self._say(event, **facts)


def _change(document: Document | None, digest: str | None) -> dict[str, Any]:
    """What is to be done and in which attempt: what a failure is remembered with."""
    if document is None:
        return {"digest": digest, "rollout": "", "attempt": 0}
    return {"digest": digest, "rollout": str(document["id"]), "attempt": int(document["attempt"])}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _words(e: BaseException) -> str:
    return str(getattr(e, "found", "") or e or type(e).__name__)
