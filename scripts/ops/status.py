"""``status``: what runs, what is live, what it was made from."""

from __future__ import annotations

import argparse
from typing import Any, Dict, List

from ops import say, volume
from ops.native import Native, to_json
from ops.server import Server
from ops.settings import Settings, load


def main(argv: List[str]) -> int:
    """Run it; 0 when the server runs and every live model is ready, else 1."""
    parser = argparse.ArgumentParser(prog="./scripts/status", description=__doc__)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    settings = load()
    data = gather(settings)
    if args.json:
        print(to_json(data))
    else:
        _print(data)
    healthy = data["server"]["state"] == "running" and all(m["ready"] for m in data["models"] if m["live"])
    return 0 if healthy and data["models"] else 1


def gather(settings: Settings) -> Dict[str, Any]:
    """Everything `status` knows, as data."""
    runtime = Native(settings, "cpu", setup=True)
    data = runtime.status()
    live = volume.live(settings.models_dir)
    data["models"] = [_model(settings, runtime.server, m, live.get(m)) for m in volume.models(settings.models_dir)]
    return data


def _model(settings: Settings, server: Server, name: str, version: int | None) -> Dict[str, Any]:
    manifest = volume.manifest(settings.models_dir, name, version) if version else None
    ready = version is not None and server.ready(name, version)
    engine = (manifest or {}).get("engine", {})
    return {
        "name": name,
        "live": version,
        "ready": ready,
        "reason": "" if ready or version is None else server.reason(name, version),
        "releases": volume.releases(settings.models_dir, name),
        "weights": (manifest or {}).get("weights"),
        "engine": {k: engine.get(k) for k in ("name", "version", "gpu", "file", "bytes")},
        "built": (manifest or {}).get("created"),
    }


def _print(data: Dict[str, Any]) -> None:
    server = data["server"]
    kind = "ok" if server["state"] == "running" else "fail"
    version = f" {server['version']}" if server["version"] else ""
    print(
        f"Triton{version} {say.colour(server['state'], kind)} ({data['runtime']}, {data['device']}); "
        f"HTTP {server['http']}, gRPC {server['grpc']}, metrics {server['metrics']}"
    )
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
    say.table(rows)
