"""``redeploy``: build what changed, make it live without a failed request, or change nothing."""

from __future__ import annotations

import argparse
from typing import List

from ops import console, hooks, operation_lock
from ops.rollout import Rollout, serving
from ops.runtimes.base import RUNTIMES
from ops.runtimes.native import spec_paths
from ops.runtimes.selection import current
from ops.settings import load


def main(argv: List[str]) -> int:
    """Run it; 0 when every model is as its spec says, proven."""
    args = _parser().parse_args(argv)
    settings = load()
    runtime = current(settings, args.runtime)
    serving(runtime)
    models = spec_paths([m for group in args.model for m in group] or settings.models.split())
    rollout = Rollout(runtime, settings)
    if args.dry_run:
        for model in models:
            row = rollout.dry_run(model)
            print(f"{row['model']}: {row['would']}")
            for line in row["changes"]:
                print(f"  {line}")
        return 0
    with operation_lock.held(settings, f"redeploy of {', '.join(models)}"):
        hooks.run("pre-redeploy", settings, must_succeed=True, models=" ".join(models))
        rollout.settle()
        changed = [model for model in models if rollout.build(model, force=args.force)]
    console.progress("done" if changed else "nothing changed; nothing was touched")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./scripts/redeploy",
        description="Build what changed and make it live; on any failure the old release stays.",
    )
    parser.add_argument(
        "--model", nargs="+", action="append", default=[], metavar="NAME|FILE",
        help="shipped specs' names or spec files (default: $MODELS)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="build a new release even when nothing changed")
    parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    return parser
