"""``python -m cluster``: the commands that concern a registry or more than one machine."""

from __future__ import annotations

import argparse
import json
import sys

from cluster.commands import ADD
from cluster.errors import ClusterError


def main(argv: list[str] | None = None) -> int:
    """Run a command; the one place that prints errors and sets the exit code.

    0: done (also when nothing had to be). 1: refused or failed, with the reason on standard error; with
    --json as {"error": ...} on standard output. 2: wrong usage. 130: interrupted.
    """
    args = _parser().parse_args(argv)
    as_json = bool(getattr(args, "json", False))
    try:
        result = args.run(args)
    except ClusterError as e:
        return _fail(e, as_json=as_json)
    except OSError as e:
        where = f"{e.filename}: " if e.filename else ""
        return _fail(ClusterError(f"{where}{e.strerror or e}"), as_json=as_json)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if as_json:
        print(json.dumps(result, indent=2))
    return 0


def _fail(error: ClusterError, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": error.facts()}))
    else:
        print(f"error: {error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cluster", description="Releases in a registry, and nodes that serve them."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in ADD:
        add(commands)
    return parser
