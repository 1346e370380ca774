"""``releases``: list every release on the models volume, and what each changed."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone
from typing import Any, Dict, List, Optional

from ops import arguments as shared
from ops import console, model_choice
from ops.rollout import Rollout
from ops.runtimes.selection import current
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    shared.models(parser)


def run(args: argparse.Namespace) -> int:
    """Always 0; --json has everything that the manifests say."""
    settings = load()
    runtime = current(settings, args.runtime)
    models = model_choice.known(runtime.snapshot(), shared.names(args))
    rows = [r for r in Rollout(runtime, settings).releases() if r["model"] in models] if models else []
    if args.json:
        console.answer(rows, "", as_json=True)
    elif not rows:
        print("nothing has been built yet: ./scripts/up")
    else:
        console.table(
            [
                [
                    "model",
                    "N",
                    "state",
                    "age",
                    "engine",
                    "parity",
                    "proof",
                    "accuracy",
                    "size",
                    "weights",
                    "changed",
                ],
                *map(_row, rows),
            ]
        )
    return 0


def _row(row: Dict[str, Any]) -> List[str]:
    if row["state"] == "unreadable":
        return [row["model"], str(row["version"]), f"unreadable: {row['reason']}", *[""] * 8]
    engine, parity = row["engine"], row["parity"]
    gpu = f" on {engine['gpu']['name']}" if engine.get("gpu") else ""
    top1 = "" if parity["top1"] is None else f"top-1 {parity['top1']:.0%}, "
    state = f"failed: {row['reason']}" if row["state"] == "failed" else row["state"]
    return [
        row["model"],
        str(row["version"]),
        state if len(state) <= 60 else f"{state[:57]}...",
        _age(row["created"]),
        f"{engine['name']} {engine['version']}{gpu}{_int8(row.get('quantization'))}",
        f"{top1}max abs {parity['max_abs']:.2g}",
        _proof(row.get("proof")),
        _accuracy(row.get("evaluation")),
        f"{engine['bytes'] / 2**20:.1f} MiB",
        row["weights"]["kind"],
        "; ".join(row["changes"][:3]) + (" ..." if len(row["changes"]) > 3 else ""),
    ]


def _proof(proof: Optional[Dict[str, Any]]) -> str:
    """How many of the mistakes made at build the golden samples noticed; empty for an older release."""
    return f"{proof['noticed']} of {proof['mutants']} mutants noticed" if proof else ""


def _int8(quantization: Optional[Dict[str, Any]]) -> str:
    """How many of its layers run in INT8; empty for another precision."""
    if not quantization:
        return ""
    layers = quantization["layers"]
    return f", INT8 in {layers - len(quantization['left_out'])} of {layers} layers"


def _accuracy(evaluation: Optional[Dict[str, Any]]) -> str:
    """On labelled data, with what was lost on the way from the source model; empty where there is none."""
    if not evaluation:
        return ""
    after, drop = evaluation["after"], evaluation["drop"]
    lost = "" if evaluation["same_file"] else f", drop {drop['drop'] * 100:+.2f}"
    return f"{evaluation['metric']} {after['accuracy']:.1%} of {after['count']}{lost}"


def _age(created: str) -> str:
    seconds = (datetime.now(timezone.utc) - datetime.fromisoformat(created)).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
