"""``down``: stop what `up` started, and nothing else. What was published stays."""

from __future__ import annotations

import argparse

from ops import console
from ops.runtimes.selection import current
from ops.settings import load


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Only what every verb takes."""


def run(args: argparse.Namespace) -> int:
    """0 also when nothing was running."""
    runtime = current(load(), args.runtime)
    said = runtime.stop()
    console.answer({"runtime": runtime.name, "result": said}, said, as_json=args.json)
    return 0
