"""``prune``: remove old releases; never the live one, the one before it, or one being changed."""

from __future__ import annotations

import argparse
from typing import List

from ops import operation_lock
from ops.rollout import Rollout
from ops.runtimes.base import RUNTIMES
from ops.runtimes.selection import current
from ops.settings import load


def main(argv: List[str]) -> int:
    """Run it; 0 when done."""
    parser = argparse.ArgumentParser(prog="./scripts/prune", description=__doc__)
    parser.add_argument("--keep", type=int, required=True, metavar="K", help="how many of the newest stay")
    parser.add_argument("--model", nargs="+", default=[], metavar="NAME", help="default: every model")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    args = parser.parse_args(argv)
    settings = load()
    runtime = current(settings, args.runtime)
    with operation_lock.held(settings, "prune"):
        for row in Rollout(runtime, settings).prune(args.model, args.keep):
            removed = ", ".join(map(str, row["removed"])) or "nothing"
            print(f"{row['model']}: removed {removed}")
    return 0
