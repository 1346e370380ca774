"""``status``: show what runs, what is live, and what it was made from; with a registry, on every node."""

from __future__ import annotations

import argparse
from typing import Any, Dict, List

from models_volume import snapshot
from ops import arguments as shared
from ops import console, model_choice
from ops.cluster import nodes
from ops.runtimes.base import Runtime
from ops.runtimes.selection import current
from ops.runtimes.server import Server
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    shared.models(parser)


def run(args: argparse.Namespace) -> int:
    """0 when the server runs and every live model is ready, else 1."""
    runtime = current(load(), args.runtime)
    data = gather(runtime, shared.names(args))
    data["cluster"] = nodes.of_models(runtime, [m["name"] for m in data["models"]])
    if args.json:
        console.answer(data, "", as_json=True)
    else:
        _print(data)
    states = {data["server"]["state"], *(row["state"] for row in data.get("servers", []))}
    healthy = states == {"running"} and all(m["ready"] for m in data["models"] if m["live"])
    return 0 if healthy and data["models"] else 1


def gather(runtime: Runtime, names: List[str]) -> Dict[str, Any]:
    """Everything `status` knows of these models (all, where none is named), as data; raises OpsError."""
    models = runtime.snapshot()
    chosen = model_choice.known(models, names)
    data = runtime.status()
    data["models"] = [_model(runtime.server, name, models[name]) for name in chosen]
    for place, row in zip(runtime.places(), data.get("servers", [])):
        wanted = [(m["name"], m["live"]) for m in data["models"] if m["live"]]
        row["not_ready"] = [f"{m} version {v}" for m, v in wanted if not place.server.ready(m, v)]
    return data


def _model(server: Server, name: str, model: snapshot.Model) -> Dict[str, Any]:
    version, manifest = model["live"], model["manifest"]
    ready = version is not None and server.ready(name, version)
    engine = (manifest or {}).get("engine", {})
    return {
        "name": name,
        "live": version,
        "ready": ready,
        "reason": "" if ready or version is None else server.reason(name, version),
        "releases": model["releases"],
        "strays": model["strays"],
        "weights": (manifest or {}).get("weights"),
        "engine": {k: engine.get(k) for k in ("name", "version", "gpu", "file", "bytes")},
        "built": (manifest or {}).get("created"),
    }


def _print(data: Dict[str, Any]) -> None:
    server = data["server"]
    kind = "ok" if server["state"] == "running" else "fail"
    version = f" {server['version']}" if server["version"] else ""
    print(
        f"Triton{version} {console.colour(server['state'], kind)} ({data['runtime']}, {data['device']}); "
        f"HTTP {server['http']}, gRPC {server['grpc']}, metrics {server['metrics']}"
    )
    if server.get("health") == "unhealthy":
        print(f"{server['container']} is unhealthy: {server['health_says']}")
    for row in data.get("servers", []):
        kind = "ok" if row["state"] == "running" else "fail"
        missing = f"; does not serve {', '.join(row['not_ready'])}" if row["not_ready"] else ""
        where = f"HTTP {row['http']}, gRPC {row['grpc']}"
        print(f"{row['name']} {console.colour(row['state'], kind)}; {where}{missing}")
    for service in data["services"]:
        kind = "ok" if service["state"] == "running" else "fail"
        shown = "; ".join(f"{label} {where}" for label, where in service["shows"].items())
        print(f"{service['name']} {console.colour(service['state'], kind)}{shown and ': '}{shown}")
    if not data["models"]:
        print("nothing has been built yet: ./scripts/up")
        return
    rows = [["model", "live", "ready", "releases", "engine", "weights"]]
    for m in data["models"]:
        engine = m["engine"]
        gpu = f" on {engine['gpu']['name']}" if engine.get("gpu") else ""
        rows.append(
            [
                m["name"],
                str(m["live"] or "-"),
                "yes" if m["ready"] else f"no {m['reason']}".strip(),
                ",".join(map(str, m["releases"])),
                f"{engine['name']} {engine['version']}{gpu}" if engine["name"] else "-",
                (m["weights"] or {}).get("description", "-"),
            ]
        )
    console.table(rows)
    for m in data["models"]:
        for line in m["strays"]:
            print(console.colour(f"warning: {line}", "warn"))
    for model, row in data["cluster"].items():
        nodes.show(model, row)
