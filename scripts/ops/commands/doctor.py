"""``doctor``: check everything ``up`` relies on, and name the remedy of each finding."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import List

from ops import console
from ops.checks import machine
from ops.runtimes.base import RUNTIMES
from ops.runtimes.native import to_json
from ops.settings import load


def main(argv: List[str]) -> int:
    """Run it; 0 unless something would stop `up`."""
    parser = argparse.ArgumentParser(prog="./scripts/doctor", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto", help="check for this one")
    parser.add_argument("--device", choices=("auto", "gpu", "cpu"), default="auto")
    args = parser.parse_args(argv)
    findings = list(machine.everything(load(), args.runtime, args.device))
    if args.json:
        print(to_json([asdict(f) for f in findings]))
    else:
        width = max(len(f.name) for f in findings)
        for f in findings:
            print(f"{console.colour(f.level.ljust(4), f.level)}  {f.name.ljust(width)}  {f.detail}")
            if f.level != "ok" and f.remedy:
                print(f"      {' ' * width}  -> {f.remedy}")
    return 1 if any(f.level == "fail" for f in findings) else 0
