"""What people and programs are shown of a rollout and of the nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builder import progress
from builder.release.lifecycle import unfit
from cluster.artifact.format import Index
from cluster.registry.references import LIVE
from cluster.rollout.driver import TAG
from cluster.rollout.views import PREFIX
from cluster.state.store import Document, StateStore

say = progress.say
_SHOWN = ("id", "attempt", "state", "target", "previous", "reason", "order", "allowed", "skipped", "changed")


def row(document: Document) -> dict[str, Any]:
    """A rollout as data."""
    return {key: document[key] for key in _SHOWN}


def cluster(store: StateStore, repo: str) -> dict[str, Any]:
    """The rollout, the tag live, and every node as its last report has it; a document that cannot be read is
    None."""
    try:
        found = store.read(repo, TAG)
    except ValueError as e:
        say(f"the rollout document cannot be read: {e}")
        found = None
    nodes = []
    for tag in store.tags(repo, PREFIX):
        try:
            report = store.read(repo, tag)
        except ValueError:
            report = None
        if report is not None:
            nodes.append(_node(tag.removeprefix(PREFIX), report[1]))
    return {
        "live": store.digest(repo, LIVE),
        "rollout": None if found is None else {key: found[1].get(key) for key in _SHOWN},
        "nodes": nodes,
    }


def engines(order: list[str], report: Callable[[str], Document], index: Index) -> None:
    """Say which nodes will have to build an engine: the release has none for them."""
    without = []
    for node in order:
        here = report(node).get("engine") or {}
        card = {"name": here.get("gpu"), "compute_capability": here.get("compute_capability")}
        identity = {
            "name": here.get("name"), "version": here.get("tensorrt"),
            "gpu": card if here.get("gpu") else None,
        }  # fmt: skip
        if all(unfit(entry.engine, identity) for entry in index.entries):
            without.append(f"{node} ({here.get('gpu') or here.get('name') or 'unknown'})")
    if without:
        shown = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
        say(f"the release has no engine for {shown}: each builds one of its ONNX file")


def _node(name: str, report: Document) -> dict[str, Any]:
    engine = report.get("engine") or {}
    return {
        "node": name,
        "engine": engine.get("name"),
        "gpu": engine.get("gpu"),
        "live": report.get("live"),
        "release": report.get("local"),
        "state": report.get("state"),
        "since": report.get("since"),
        "time": report.get("time"),
        "wanted": report.get("wanted"),
        "reason": report.get("reason"),
        "metrics": report.get("metrics"),
    }
