"""The rollout's decisions: of the document and the nodes' reports, the next document. No clock, no network.

One thing at a time: the caller writes the document that comes out, looks again, and asks again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.rollout import document as documents
from cluster.rollout.compare import FEW, compare, total
from cluster.rollout.views import View
from cluster.state.store import Document


@dataclass(frozen=True)
class Limits:
    """How long is waited for a node, in seconds: for its change; for word of one whose turn it is; and until
    one whose turn it is not counts as away."""

    node_secs: float = 1800.0
    silent_secs: float = 180.0
    away_secs: float = 75.0

    @classmethod
    def of(cls, report_secs: float, node_secs: float = 1800.0) -> Limits:
        """By how often a node reports at least: a proof may take a minute without a word."""
        return cls(node_secs, 2 * report_secs + 120, 2 * report_secs + 15)


@dataclass(frozen=True)
class Decision:
    """What is next.

    Attributes:
        document: the next document; None to go on waiting.
        promote: the tag live is to be moved to the target first.
        waits: for whom is waited, for people.
    """

    document: Document | None = None
    promote: bool = False
    waits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Times:
    """The time now, and when the document last changed or the driver began, whichever is later; seconds."""

    now: float
    since: float


def decide(document: Document, views: Mapping[str, View], times: Times, limits: Limits) -> Decision:
    """The next step; ``views`` are of every node in the document's order."""
    state = document["state"]
    if state == documents.RUNNING:
        return _forward(document, views, times, limits)
    if state == documents.GOING_BACK:
        return _back(document, views, times, limits)
    return Decision()


def _forward(document: Document, views: Mapping[str, View], times: Times, limits: Limits) -> Decision:
    allowed, bad = document["allowed"], _bad(document, views, times, limits)
    words = "; ".join(f"{node}: {why}" for node, why in sorted(bad.items()))
    if len(bad) > document["max_failed"]:
        return Decision(documents.go_back(document, words))
    pending = [n for n in allowed if views[n].proven is None and n not in bad]
    if pending:
        return Decision(waits=tuple(pending))
    done = [n for n in allowed if n not in bad]
    rest = _rest(document)
    if not rest:
        return _end(document, done, sorted(bad))
    if not done and len(allowed) >= document["canary"]:  # nobody has shown yet that the release works
        return Decision(documents.go_back(document, f"every canary failed: {words}"))
    gone = [n for n in rest if times.now - views[n].heard > limits.away_secs]
    return Decision(documents.skip(document, gone)) if gone else _next(document, views, times, done, rest)


def _bad(document: Document, views: Mapping[str, View], times: Times, limits: Limits) -> dict[str, str]:
    """Which of the nodes that may have the target failed, and why."""
    found, waited = {}, times.now - times.since
    for node in document["allowed"]:
        view = views[node]
        if view.failed:
            found[node] = view.failed
        elif times.now - view.heard > limits.silent_secs:
            found[node] = f"it has not been heard of for {times.now - view.heard:.0f} s"
        elif view.proven is None and waited > limits.node_secs:
            found[node] = f"it was not there after {waited:.0f} s"
    return found


def _rest(document: Document) -> list[str]:
    """Whose turn is still to come, in their order."""
    gone = {*document["allowed"], *document["skipped"]}
    return [n for n in document["order"] if n not in gone]


def _next(
    document: Document, views: Mapping[str, View], times: Times, done: list[str], rest: list[str]
) -> Decision:
    """Who follows, where all that may have the target have come to an end."""
    allowed, canaries = document["allowed"], document["canary"]
    if len(allowed) < canaries:
        return Decision(documents.allow(document, rest[: canaries - len(allowed)]))
    note = ""
    if len(allowed) == canaries:
        observed = _observed(document, views, times, done, rest)
        if observed is not None:
            return observed
        asked = total("requests", [views[n] for n in done])
        note = "" if asked >= FEW else f"the canaries had {asked} requests: too few to tell their failures"
    return Decision(documents.allow(document, rest[: document["at_once"]], note))


def _end(document: Document, done: list[str], bad: list[str]) -> Decision:
    if not done:
        words = "no node took it"
        return Decision(documents.end(document, documents.FAILED, words, reason=words))
    left = [*document["skipped"], *bad]
    words = f"done; without {', '.join(left)}" if left else "done"
    return Decision(documents.end(document, documents.DONE, words, without=bad), promote=True)


def _observed(
    document: Document, views: Mapping[str, View], times: Times, canaries: list[str], others: list[str]
) -> Decision | None:
    """What the canaries' time of serving tells; None when the others may follow."""
    worse = compare([views[n] for n in canaries], [views[n] for n in others])
    if worse:
        return Decision(documents.go_back(document, f"the canaries {', '.join(canaries)}: {worse}"))
    latest = max((views[n].proven or 0.0 for n in canaries), default=None)
    if latest is not None and times.now - latest < document["observe_secs"]:
        return Decision(waits=tuple(canaries))
    if document["hold"]:
        return Decision(documents.pause(document, "the canaries serve; --resume goes on, --back goes back"))
    return None


def _back(document: Document, views: Mapping[str, View], times: Times, limits: Limits) -> Decision:
    waited, left = times.now - times.since, [n for n in document["order"] if not views[n].back]
    waits = [n for n in left if times.now - views[n].heard <= limits.away_secs]
    if waits and waited <= limits.node_secs:
        return Decision(waits=tuple(waits))
    if waits:
        words = f"{', '.join(waits)}: not back after {waited:.0f} s"
        reason = f"{document['reason']}; {words}"
        return Decision(documents.end(document, documents.FAILED, words, reason=reason))
    words = f"gone back; not heard of: {', '.join(left)}" if left else "gone back"
    return Decision(documents.end(document, documents.GONE_BACK, words))
