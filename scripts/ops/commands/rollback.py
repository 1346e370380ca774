"""``rollback``: the same road as redeploy, with an older release."""

from __future__ import annotations

import argparse
from typing import List

from ops import operation_lock
from ops.rollout import Rollout, serving
from ops.runtimes.base import RUNTIMES
from ops.runtimes.selection import current
from ops.settings import load


def main(argv: List[str]) -> int:
    """Run it; 0 when the older release is live and proven."""
    parser = argparse.ArgumentParser(
        prog="./scripts/rollback", description="Make an older release live, without a failed request."
    )
    parser.add_argument("--model", metavar="NAME", help="the model's name (default: the only one)")
    parser.add_argument("--to", type=int, metavar="N", help="the release (default: the one before)")
    parser.add_argument("--force", action="store_true", help="even a release that is marked failed")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    args = parser.parse_args(argv)
    settings = load()
    runtime = current(settings, args.runtime)
    serving(runtime)
    if args.model is None:
        live = [name for name, model in runtime.snapshot().items() if model["live"]]
        if len(live) != 1:
            parser.error(f"--model: which of {', '.join(live) or 'none'}?")
        args.model = live[0]
    command = ["rollback", args.model, *([] if args.to is None else ["--to", str(args.to)])]
    with operation_lock.held(settings, f"rollback of {args.model}"):
        rollout = Rollout(runtime, settings)
        rollout.settle()
        stale = runtime.server.reason(args.model, args.to) if args.to is not None else ""
        row = rollout.flip([*command, *(["--force"] if args.force else [])], stale=stale)
    print(f"{row['model']}: release {row['version']} is live")
    return 0
