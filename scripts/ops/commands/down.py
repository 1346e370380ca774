"""``down``: stop what ``up`` started, and nothing else. What was published stays."""

from __future__ import annotations

import argparse
from typing import List

from ops.runtimes.base import RUNTIMES
from ops.runtimes.selection import current
from ops.settings import load


def main(argv: List[str]) -> int:
    """Run it; 0 also when nothing was running."""
    parser = argparse.ArgumentParser(prog="./scripts/down", description=__doc__)
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    args = parser.parse_args(argv)
    print(current(load(), args.runtime).stop())
    return 0
