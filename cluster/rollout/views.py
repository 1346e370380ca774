"""What each node's report means for a rollout: proven, failed, at work, or not heard of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.state.store import Document

PREFIX = "node-"  # of a report's tag


@dataclass(frozen=True)
class View:
    """A node as its last report shows it; times are the watcher's own, in seconds that never go back.

    Attributes:
        heard: when its report was last seen to change, or when the watching began.
        proven: since when it is seen to serve the target, proven in this attempt; None where it does not.
        failed: why it could not, in this attempt; empty when it did not fail.
        back: it serves what was live before the rollout, or nothing was.
        metrics: its figures.
    """

    heard: float
    proven: float | None = None
    failed: str = ""
    back: bool = False
    metrics: Mapping[str, Any] = field(default_factory=dict)


class Watch:
    """The nodes of a model, seen through their reports.

    Whether a node lives is told by whether its report changes, by the watcher's own clock: the report's time
    is the node's, and clocks differ.

    Attributes:
        news: whether a report has changed since this was last set to False.
    """

    def __init__(self) -> None:
        self.news = False
        self._digests: dict[str, str] = {}
        self._heard: dict[str, float] = {}
        self._reports: dict[str, Document] = {}
        self._views: dict[str, View] = {}
        self._stale: dict[str, View | None] = {}  # the views before the last reports
        self._of: tuple[object, ...] = ()  # what the views are views of

    def seen(self, node: str, digest: str, report: Document, now: float) -> None:
        """A report was read."""
        if self._digests.get(node) == digest:
            return
        if node in self._digests:  # the first one may be as old as the hills
            self._heard[node] = now
        self._digests[node], self._reports[node] = digest, report
        self._stale[node] = self._views.pop(node, None) or self._stale.get(node)
        self.news = True

    def known(self, node: str) -> str:
        """The digest of a node's last report; empty where none was seen."""
        return self._digests.get(node, "")

    def heard(self, nodes: Iterable[str], since: float) -> list[str]:
        """Those whose report has changed since then."""
        return [n for n in nodes if self._heard.get(n, since) > since]

    def report(self, node: str) -> Document:
        """A node's last report; empty where there is none."""
        return self._reports.get(node, {})

    def views(self, document: Document, now: float, began: float) -> Mapping[str, View]:
        """Each node of the order as it stands to this rollout; ``began`` is when the watching did."""
        of = (document["id"], document["attempt"], document["target"], document["previous"])
        if of != self._of:
            self._of, self._views, self._stale = of, {}, {}
        for node in document["order"]:
            if node not in self._views:
                self._views[node] = self._view(document, node, now, began)
        return self._views

    def _view(self, document: Document, node: str, now: float, began: float) -> View:
        report = self._reports.get(node, {})
        mine = (report.get("rollout"), report.get("attempt")) == (document["id"], document["attempt"])
        state, live, target = report.get("state"), report.get("live"), document["target"]
        failed = mine and state == "failed" and report.get("failed") == target
        there = state in ("serving", "failed", "no_release") and live == document["previous"]
        before = self._stale.pop(node, None)
        since = now if before is None or before.proven is None else before.proven
        return View(
            heard=self._heard.get(node, began),
            proven=since if mine and state == "serving" and live == target else None,
            failed=str(report.get("reason") or "it failed") if failed else "",
            back=document["previous"] is None or there,
            metrics=report.get("metrics") or {},
        )
