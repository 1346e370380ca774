"""Simulated nodes on a simulated clock, for the real rollout: they obey its document, and report.

A node looks at the document every 5 s. It pulls at its share of the registry's link, proves, and serves; or
it fails, falls silent, or is slow, as a test wants it. What a real node takes: docs/scale.md.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cluster.rollout import document as documents
from cluster.rollout.driver import TAG, Driver
from cluster.rollout.views import PREFIX
from cluster.state.store import Document, MemoryStore
from cluster.state.wanted import wanted

LOOK, REPORT = 5.0, 30.0  # seconds: AGENT_SECS and REPORT_SECS


@dataclass
class Node:
    """One node: what it serves, and what goes wrong on it.

    Attributes:
        wrong: digests whose proof fails here.
        dead: from which second on it is not heard of.
        history: what was live, in order, each with the second and whether it had been proven here.
    """

    name: str
    live: str | None
    wrong: set[str] = field(default_factory=set)
    dead: float = float("inf")
    metrics: dict[str, Any] = field(default_factory=dict)
    wants: str | None = None
    busy: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    version: int = 0
    history: list[tuple[float, str | None, bool]] = field(default_factory=list)


def quiet(_: str) -> None:
    """For what says something."""


class AwayError(Exception):
    """As a registry that is away."""

    kind = "unreachable"


class Cluster(MemoryStore):
    """Nodes, their registry, and their time.

    Args:
        size: bytes that a node pulls.
        link: bytes per second of the registry, shared by all that pull.
        proof: seconds that a proof takes.
    """

    def __init__(
        self,
        names: list[str],
        live: str | None,
        *,
        size: float = 50e6,
        link: float = 125e6,
        proof: float = 45.0,
    ) -> None:
        super().__init__()
        self.now, self.moved = 0.0, 0.0
        self.size, self.link, self.proof = size, link, proof
        self.nodes = {name: Node(name, live, wants=live) for name in names}
        self.away: tuple[float, float] = (0.0, 0.0)  # seconds in which the registry does not answer
        self.writes = 0
        self.on_write: Callable[[str], None] = quiet
        self.most_busy = 0
        self._pulling = self._busy = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._document: tuple[str, Document] | None = None
        if live is not None:
            self.releases["m", "live"] = live
        for node in self.nodes.values():
            node.history.append((0.0, live, True))
            self._tell(node, state="serving" if live else "no_release")

    # The store.

    def read(self, repo: str, tag: str) -> tuple[str, Document] | None:
        self._answers()
        if tag == TAG:
            return self._document
        node = self.nodes.get(tag.removeprefix(PREFIX)) if tag.startswith(PREFIX) else None
        if node is None:
            return super().read(repo, tag)
        beat = int(min(self.now, node.dead) / REPORT)
        return f"{node.name} {node.version} {beat}", node.report

    def write(self, repo: str, tag: str, document: Document) -> str:
        self._answers()
        self.writes += 1
        if tag != TAG:
            digest = super().write(repo, tag, document)
        else:
            before = self._document and self._document[1]
            digest = f"document {self.writes}"
            self._document = (digest, document)
            self._heard(before, document)
        self.on_write(tag)
        return digest

    def digest(self, repo: str, tag: str) -> str | None:
        self._answers()
        if tag == TAG:
            return self._document and self._document[0]
        return super().digest(repo, tag)

    def tags(self, repo: str, prefix: str) -> list[str]:
        self._answers()
        return (
            sorted(PREFIX + name for name in self.nodes) if prefix == PREFIX else super().tags(repo, prefix)
        )

    def _answers(self) -> None:
        if self.away[0] <= self.now < self.away[1]:
            raise AwayError("the registry does not answer")

    # Time.

    def sleep(self, seconds: float) -> None:
        """Let time go by, and the nodes do what they do in it."""
        end = self.now + seconds
        while self._events and self._events[0][0] <= end:
            when, _, act = heapq.heappop(self._events)
            self.now = max(self.now, when)
            act()
        self.now = end

    def driver(self, say: Callable[[str], None] = quiet, **options: Any) -> Driver:
        """The real driver on this time."""

        def promote(digest: str) -> None:
            self._answers()
            self.releases["m", "live"] = digest

        return Driver(self, "m", promote, clock=lambda: self.now, sleep=self.sleep, say=say, **options)

    def everywhere(self, digest: str | None) -> bool:
        """Whether every node that lives serves it."""
        return {n.live for n in self.nodes.values() if n.dead > self.now} == {digest}

    def unproven(self) -> list[tuple[str, str | None]]:
        """Nodes that ever served what had not been proven on them."""
        return [(n.name, live) for n in self.nodes.values() for _, live, proven in n.history if not proven]

    # The nodes.

    def _heard(self, before: Document | None, after: Document) -> None:
        """Who is concerned by a change of the document sees it at their next look."""
        if documents.problem(after):
            return
        before = None if documents.problem(before) else before
        grown = before is not None and all(before[k] == after[k] for k in ("id", "attempt", "state"))
        names = after["allowed"][len(before["allowed"]) :] if grown and before else list(self.nodes)
        for number, name in enumerate(names):
            self._at(
                LOOK * (0.1 + 0.9 * ((number * 7919) % 100) / 100), lambda n=name: self._look(self.nodes[n])
            )

    def _look(self, node: Node) -> None:
        if self.now >= node.dead or node.busy:
            return
        if self.away[0] <= self.now < self.away[1]:
            self._at(LOOK, lambda: self._look(node))
            return
        assert self._document is not None
        document = self._document[1]
        if documents.problem(document):
            return  # as the real agent: nothing changes
        digest = wanted(document, self.releases.get(("m", "live")), node.name)
        done = {"rollout": document["id"], "attempt": document["attempt"], "wanted": digest}
        failed = node.report.get("failed")
        again = [node.report.get(k) for k in ("rollout", "attempt")] != [document["id"], document["attempt"]]
        if digest is None or digest == node.live:
            self._tell(node, **done, state="serving" if node.live else "no_release")
        elif failed == digest and not again:
            self._tell(node, **done, state="failed", failed=failed, reason=node.report["reason"])
        else:
            self._pull(node, digest, done)

    def _pull(self, node: Node, digest: str, done: dict[str, Any]) -> None:
        node.busy = digest
        self._pulling += 1
        self._busy += 1
        self.most_busy = max(self.most_busy, self._busy)
        self._tell(node, **done, state="pulling")
        known = any(live == digest for _, live, _ in node.history)
        self.moved += 0.0 if known else self.size
        seconds = 0.1 if known else self.size / (self.link / self._pulling)

        def pulled() -> None:
            self._pulling -= 1
            self._tell(node, **done, state="proving")
            self._at(1.0 if known else self.proof, lambda: self._proven(node, digest, done))

        self._at(seconds, pulled)

    def _proven(self, node: Node, digest: str, done: dict[str, Any]) -> None:
        node.busy = ""
        self._busy -= 1
        if self.now >= node.dead:
            return
        if digest in node.wrong:
            self._tell(node, **done, state="failed", failed=digest, reason="answers differ")
        else:
            node.live = digest
            node.history.append((self.now, digest, node.report["state"] == "proving"))
            self._tell(node, **done, state="serving")
        self._look(node)

    def _tell(self, node: Node, **facts: Any) -> None:
        node.version += 1
        fresh = {"failed": None, "reason": "", "rollout": "", "attempt": 0, **facts}
        node.report = {**fresh, "node": node.name, "live": node.live, "metrics": node.metrics}

    def _at(self, seconds: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, act))
