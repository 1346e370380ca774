"""``prune``: remove old releases, but never the live one, the one before it, or one being changed."""

from __future__ import annotations

import argparse

from ops import arguments as shared
from ops import console, model_choice, operation_lock
from ops.rollout import Rollout
from ops.runtimes.selection import current
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("--keep", type=int, required=True, metavar="K", help="how many of the newest stay")
    shared.models(parser)


def run(args: argparse.Namespace) -> int:
    """0 when done."""
    settings = load()
    runtime = current(settings, args.runtime)
    models = model_choice.known(runtime.snapshot(), shared.names(args))
    rows = []
    if models:
        with operation_lock.held(settings, "prune"):
            rows = Rollout(runtime, settings).prune(models, args.keep)
    lines = [f"{row['model']}: removed {', '.join(map(str, row['removed'])) or 'nothing'}" for row in rows]
    console.answer(rows, "\n".join(lines) or "nothing has been built yet: ./scripts/up", as_json=args.json)
    return 0
