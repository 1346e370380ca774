"""``redeploy``: build what changed and make it live without a failed request, or change nothing."""

from __future__ import annotations

import argparse
from typing import Any, Dict, List

from ops import arguments as shared
from ops import console, hooks, operation_lock
from ops.rollout import Rollout, serving
from ops.runtimes.native import spec_paths
from ops.runtimes.selection import current
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    shared.specs(parser)
    parser.add_argument("--force", action="store_true", help="build a new release even when nothing changed")
    shared.quiet_gpu(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")


def run(args: argparse.Namespace) -> int:
    """0 when every model is as its spec says, proven."""
    settings = load()
    runtime = current(settings, args.runtime)
    serving(runtime)
    models = spec_paths(shared.names(args) or settings.models.split())
    if len(models) > 1 and not args.verbose:
        console.hide_details()
    rollout = Rollout(runtime, settings, quiet_gpu=args.quiet_gpu)
    if args.dry_run:
        rows = [rollout.dry_run(model) for model in models]
        console.answer(rows, "\n".join(line for row in rows for line in _would(row)), as_json=args.json)
        return 0
    with operation_lock.held(settings, f"redeploy of {', '.join(models)}"):
        hooks.run("pre-redeploy", settings, must_succeed=True, models=" ".join(models))
        rollout.settle()
        rows = [rollout.build(model, force=args.force) for model in models]
    changed = any(row["action"] != "unchanged" for row in rows)
    console.progress("done" if changed else "nothing changed; nothing was touched")
    if args.json:
        console.answer(rows, "", as_json=True)
    return 0


def _would(row: Dict[str, Any]) -> List[str]:
    return [f"{row['model']}: {row['would']}", *(f"  {line}" for line in row["changes"])]
