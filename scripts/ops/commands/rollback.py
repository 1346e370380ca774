"""``rollback``: make an older release live, without a failed request; the same road as redeploy."""

from __future__ import annotations

import argparse

from ops import arguments as shared
from ops import console, model_choice, operation_lock
from ops.rollout import Rollout, serving
from ops.runtimes.selection import current
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    shared.one_model(parser)
    parser.add_argument(
        "--to", type=int, metavar="N", help="the release (default: the newest proven one below the live one)"
    )
    parser.add_argument("--force", action="store_true", help="even a release that is marked failed")


def run(args: argparse.Namespace) -> int:
    """0 when the older release is live and proven."""
    settings = load()
    runtime = current(settings, args.runtime)
    serving(runtime)
    model = model_choice.only_live(runtime.snapshot(), args.model)
    with operation_lock.held(settings, f"rollback of {model}"):
        rollout = Rollout(runtime, settings)
        rollout.settle()
        stale = runtime.server.reason(model, args.to) if args.to is not None else ""
        row = rollout.rollback(model, args.to, force=args.force, stale=stale)
    console.answer(row, f"{row['model']}: release {row['version']} is live", as_json=args.json)
    return 0
