"""``doctor``: check everything that `up` relies on, and name the remedy of each finding."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from ops import arguments as shared
from ops import console
from ops.checks import machine
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    shared.device(parser)


def run(args: argparse.Namespace) -> int:
    """0 unless something would stop `up`."""
    findings = list(machine.everything(load(), args.runtime, args.device))
    if args.json:
        print(json.dumps([asdict(f) for f in findings], indent=2))
    else:
        width = max(len(f.name) for f in findings)
        for f in findings:
            print(f"{console.colour(f.level.ljust(4), f.level)}  {f.name.ljust(width)}  {f.detail}")
            if f.level != "ok" and f.remedy:
                print(f"      {' ' * width}  -> {f.remedy}")
    return 1 if any(f.level == "fail" for f in findings) else 0
