"""The nodes of a cluster, as their reports in the registry have them: asked for, and shown as a table."""

from __future__ import annotations

from typing import Any, Dict, List

from ops import console, rollout
from ops.errors import OpsError
from ops.runtimes.base import Runtime
from ops.settings import value


def of_models(runtime: Runtime, models: List[str]) -> Dict[str, Dict[str, Any]]:
    """By model, its nodes and its rollout; ``error`` where the registry could not tell. Empty without one; a
    model of which the registry knows nothing is left out."""
    found: Dict[str, Dict[str, Any]] = {}
    for model in models if value("REGISTRY") else []:
        try:
            row = rollout.ask(runtime, "cluster", ["rollout", model])
        except OpsError as e:
            found[model] = {"error": e.found}
            if e.kind == "unreachable":
                break  # the next model would wait as long for nothing
        else:
            if row["nodes"] or row["rollout"]:
                found[model] = row
    return found


def show(model: str, data: Dict[str, Any]) -> None:
    """Print the table."""
    if "error" in data:
        print(console.colour(f"warning: {model}: the nodes are not known: {data['error']}", "warn"))
        return
    found = data["rollout"]
    print(f"{model}: live in the registry is {short(data['live'])}")
    if found:
        place = f"{len(found['allowed'] or [])} of {len(found['order'] or [])} nodes"
        reason = f": {found['reason']}" if found["reason"] else ""
        print(f"rollout of {short(found['target'])} is {found['state']}, {place}{reason}")
    if not data["nodes"]:
        print("no node has reported yet: ./scripts/up --profile agent on each")
        return
    rows: List[List[str]] = [["node", "engine", "live", "release", "state", "reported", "reason"]]
    for n in data["nodes"]:
        rows.append(
            [
                n["node"], n["gpu"] or n["engine"] or "-", short(n["live"]), str(n["release"] or "-"),
                str(n["state"]), str(n["time"] or "-"), n["reason"] or "",
            ]
        )  # fmt: skip
    console.table(rows)


def short(digest: Any) -> str:
    """A digest's first twelve digits."""
    return str(digest).partition(":")[2][:12] if digest else "-"
