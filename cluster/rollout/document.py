"""The rollout document: what is to go where, and how far it has come. Every agent reads it.

    schema id attempt model state reason started changed
    target previous      digests of releases; previous is None where nothing was live
    order                the nodes, canaries first
    allowed              those that may have the target now
    skipped              those that were not heard of before their turn
    without              those that failed and stayed behind when it was done
    canary at_once max_failed observe_secs hold
    traffic              {"share": part, "shadow": part}: what a canary gets meanwhile
    log                  [{"time", "what"}], the last of them

    running -> paused -> running;  running, paused -> going_back -> gone_back;  running -> done
    failed: some node could not even go back

Nothing here changes a document: each function returns another one.
"""

from __future__ import annotations

import uuid
from datetime import datetime, timezone
from typing import Any

from cluster.state.store import Document

RUNNING, PAUSED, GOING_BACK = "running", "paused", "going_back"
GONE_BACK, FAILED, DONE = "gone_back", "failed", "done"
OPEN = (RUNNING, PAUSED, GOING_BACK)  # somebody has to bring it to its end
STATES = (*OPEN, GONE_BACK, FAILED, DONE)
_LOG = 50


def make(
    model: str,
    target: str,
    previous: str | None,
    order: list[str],
    *,
    canary: int = 1,
    at_once: int = 1,
    max_failed: int = 0,
    observe_secs: float = 60.0,
    hold: bool = False,
    traffic: dict[str, float] | None = None,
) -> Document:
    """A new rollout, of which no node knows yet.

    Args:
        order: every node, canaries first.
        canary: how many of them are canaries: these go first, all others wait for them.
        at_once: how many nodes change at the same time after that.
        max_failed: how many nodes may fail before the rollout goes back.
        observe_secs: how long the canaries serve before the others follow.
        hold: whether it pauses then.
        traffic: the share of requests that the canaries get, and the part that is copied to them.
    """
    now = _now()
    return {
        "schema": 1,
        "id": uuid.uuid4().hex[:12],
        "attempt": 1,
        "model": model,
        "state": RUNNING,
        "target": target,
        "previous": previous,
        "order": order,
        "allowed": [],
        "skipped": [],
        "without": [],
        "canary": canary,
        "at_once": at_once,
        "max_failed": max_failed,
        "observe_secs": observe_secs,
        "hold": hold,
        "traffic": traffic or {},
        "reason": "",
        "started": now,
        "changed": now,
        "log": [],
    }


def allow(document: Document, nodes: list[str], note: str = "") -> Document:
    """``nodes`` may have the target too; ``note`` is what people should know of it."""
    words = f"next: {', '.join(nodes)}" + (f" ({note})" if note else "")
    return _with(document, words, allowed=[*document["allowed"], *nodes])


def skip(document: Document, nodes: list[str]) -> Document:
    """``nodes`` have not been heard of: the others go on without them."""
    words = f"not heard of, skipped: {', '.join(nodes)}"
    return _with(document, words, skipped=[*document["skipped"], *nodes])


def pause(document: Document, why: str) -> Document:
    """Nothing goes further until it is resumed."""
    return _with(document, f"paused: {why}", state=PAUSED, reason=why)


def resume(document: Document) -> Document:
    """It goes on; one that has ended badly begins again, as another attempt. Of one that is done, the nodes
    that failed try again: all others serve the target and stay as they are."""
    if document["state"] == PAUSED:
        return _with(document, "resumed", state=RUNNING, reason="", hold=False)
    if document["state"] in (GONE_BACK, FAILED):
        fresh = {"state": RUNNING, "attempt": document["attempt"] + 1, "allowed": [], "skipped": []}
        return _with(document, f"attempt {fresh['attempt']}", reason="", **fresh)
    if document["state"] == DONE and document.get("without"):
        words = f"once more: {', '.join(document['without'])}"
        return _with(document, words, attempt=document["attempt"] + 1, without=[])
    return document


def go_back(document: Document, why: str) -> Document:
    """Every node goes back to what was live before."""
    return _with(document, f"goes back: {why}", state=GOING_BACK, reason=why)


def end(document: Document, state: str, words: str, **changes: Any) -> Document:
    """It has come to an end; ``changes`` may be its ``reason``, and who it is ``without``."""
    return _with(document, words, state=state, **changes)


def problem(document: Any) -> str:
    """What is wrong with a document that somebody has written; empty when nothing is."""
    if not isinstance(document, dict):
        return "it is no JSON object"
    wanted: dict[str, type | tuple[type, ...]] = {
        "id": str, "attempt": int, "state": str, "target": str, "previous": (str, type(None)), "order": list,
        "allowed": list, "skipped": list, "canary": int, "at_once": int, "max_failed": int,
        "observe_secs": (int, float), "hold": bool, "log": list, "reason": str,
    }  # fmt: skip
    for key, kind in wanted.items():
        if not isinstance(document.get(key), kind):
            return f"its {key} is {document.get(key)!r}"
    if document["state"] not in STATES:
        return f"its state is {document['state']!r}"
    return ""


def _with(document: Document, what: str, **changes: Any) -> Document:
    now = _now()
    log = [*document["log"], {"time": now, "what": what}][-_LOG:]
    return {**document, **changes, "changed": now, "log": log}


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
