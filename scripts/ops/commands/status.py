"""``status``: what runs, what is live, what it was made from."""

from __future__ import annotations

import argparse
from typing import Any, Dict, List

from models_volume import snapshot
from ops import console
from ops.runtimes.base import RUNTIMES, Runtime
from ops.runtimes.native import to_json
from ops.runtimes.selection import current
from ops.runtimes.server import Server
from ops.settings import load


def main(argv: List[str]) -> int:
    """Run it; 0 when the server runs and every live model is ready, else 1."""
    parser = argparse.ArgumentParser(prog="./scripts/status", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    args = parser.parse_args(argv)
    data = gather(current(load(), args.runtime))
    if args.json:
        print(to_json(data))
    else:
        _print(data)
    healthy = data["server"]["state"] == "running" and all(m["ready"] for m in data["models"] if m["live"])
    return 0 if healthy and data["models"] else 1


def gather(runtime: Runtime) -> Dict[str, Any]:
    """Everything `status` knows, as data."""
    data = runtime.status()
    data["models"] = [_model(runtime.server, name, model) for name, model in runtime.snapshot().items()]
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
    if not data["models"]:
        print("no model has been built yet: ./scripts/up")
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
