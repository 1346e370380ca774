"""Begin a rollout, take one up again, pause it, or send it back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cluster.errors import ClusterError
from cluster.registry.references import LIVE
from cluster.rollout import document as documents
from cluster.rollout.driver import TAG, Driver
from cluster.state.store import Document, StateStore


@dataclass(frozen=True)
class Wish:
    """What an operator asks of a rollout: see ``document.make``; ``first`` are the nodes to begin with."""

    target: str
    canary: int = 1
    at_once: int = 1
    max_failed: int = 0
    observe_secs: float = 60.0
    hold: bool = False
    traffic: dict[str, float] = field(default_factory=dict)
    first: Sequence[str] = ()


def begin(
    driver: Driver, store: StateStore, repo: str, model: str, wish: Wish, say: Callable[[str], None]
) -> Document | None:
    """Write a new rollout's document; None where the release is live already, everywhere for all one knows.

    Raises:
        ClusterError: another rollout is open, there is no node, or one of ``first`` is not there.
    """
    before = _last(driver)
    if before is not None and before["state"] in documents.OPEN:
        if before["target"] == wish.target:
            say(f"this very rollout is {before['state']}: taken up again")
            return before
        raise ClusterError(
            f"a rollout of {before['target'][:19]} is {before['state']}",
            remedy=f"bring it to its end first: ./scripts/rollout {model} --resume, or --back",
        )
    previous = _previous(before, store.digest(repo, LIVE))
    if previous == wish.target:
        say(f"{wish.target[:19]} is what the cluster serves already")
        return None
    say("listening for the nodes' reports")
    nodes, silent = driver.nodes()
    if silent:
        say(f"not heard of, left out: {', '.join(silent)}")
    order = _order(nodes, wish)
    document = documents.make(
        model, wish.target, previous, order,
        canary=min(wish.canary, len(order)), at_once=wish.at_once, max_failed=wish.max_failed,
        observe_secs=wish.observe_secs, hold=wish.hold, traffic=wish.traffic,
    )  # fmt: skip
    driver.write(document)
    say(f"{len(order)} nodes, canaries first: {', '.join(order[: document['canary']])}")
    return document


def change(
    store: StateStore,
    repo: str,
    driver: Driver,
    how: Callable[[Document], Document],
    sleep: Callable[[float], None],
) -> Document:
    """Change the document beside a driver that may be writing it: what is written is looked at again, and
    written again where the driver has overwritten it meanwhile. Raises ClusterError."""
    while True:
        now = driver.current()
        wanted = how(now)
        if (wanted["state"], wanted["attempt"]) == (now["state"], now["attempt"]):
            return now
        store.write(repo, TAG, wanted)
        sleep(1.5)
        after = driver.current()
        if after["state"] == wanted["state"] or after["state"] not in documents.OPEN:
            return after


def paused(document: Document) -> Document:
    """For ``change``: only what is under way can be paused."""
    if document["state"] == documents.RUNNING:
        return documents.pause(document, "by an operator")
    return document


def backwards(document: Document) -> Document:
    """For ``change``: what is under way goes back; raises ClusterError for what has come to its end."""
    if document["state"] in (documents.RUNNING, documents.PAUSED):
        return documents.go_back(document, "by an operator")
    if document["state"] == documents.DONE:
        raise ClusterError(
            "this rollout is done: there is none to go back from",
            remedy=f"roll the release before it out: --to {document['previous'] or 'N'}",
        )
    return document


def resumed(document: Document) -> Document:
    """For ``change``: see ``document.resume``; raises ClusterError for one that is done everywhere."""
    if document["state"] == documents.DONE and not document.get("without"):
        raise ClusterError("this rollout is done", remedy="begin another one: --to N")
    return documents.resume(document)


def _last(driver: Driver) -> Document | None:
    """The rollout before; None where there is none, or where what is there cannot be used."""
    try:
        return driver.current()
    except ClusterError as e:
        if getattr(e, "kind", ""):  # the registry's own trouble
            raise
        return None


def _previous(before: Document | None, live: str | None) -> str | None:
    """What the nodes serve now: what the last rollout ended with, or what the tag says."""
    if before is None:
        return live
    found = before["target"] if before["state"] == documents.DONE else before["previous"]
    # Promoted by hand since: agents obey the document while there is one, so it stays what they serve.
    return None if found is None else str(found)


def _order(nodes: list[str], wish: Wish) -> list[str]:
    if not nodes:
        raise ClusterError(
            "no node reports: there is nowhere to roll out to",
            remedy="./scripts/up --profile agent on each node, with the same REGISTRY",
        )
    strange = [n for n in wish.first if n not in nodes]
    if strange:
        raise ClusterError(
            f"--first {strange[0]}: there is no such node", expected=f"one of: {', '.join(nodes)}"
        )
    first = list(dict.fromkeys(wish.first))
    return [*first, *(n for n in nodes if n not in first)]
