"""``down``: stop what ``up`` started, and nothing else. What was published stays."""

from __future__ import annotations

import argparse
from typing import List

from ops.native import Native
from ops.settings import load


def main(argv: List[str]) -> int:
    """Run it; 0 also when nothing was running."""
    argparse.ArgumentParser(prog="./scripts/down", description=__doc__).parse_args(argv)
    print(Native(load(), "cpu", setup=True).stop())
    return 0
