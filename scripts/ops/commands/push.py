"""``push``: put a release of this machine into the registry, beside the engines of other machines.

    ./scripts/push resnet50         the live release
    ./scripts/push resnet50:3       release 3

REGISTRY in .env says where; credentials are those of `docker login`. See docs/registry.md.
"""

from __future__ import annotations

import argparse

from ops import console, rollout
from ops.errors import OpsError
from ops.runtimes.selection import current
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument(
        "release", metavar="MODEL[:N]", help="the model, and the release's number on this machine"
    )
    parser.add_argument("--as", dest="number", type=int, metavar="N", help="its number in the registry")


def run(args: argparse.Namespace) -> int:
    """0 when it is there."""
    runtime = current(load(), args.runtime)
    model, colon, version = args.release.partition(":")
    if colon and not version.isdecimal():
        raise OpsError(
            f"{args.release}: found {version!r}", expected="MODEL, or MODEL:N with a release's number"
        )
    words = ["push", model, *([version] if colon else [])]
    row = rollout.ask(
        runtime, "cluster", [*words, *([] if args.number is None else ["--as", str(args.number)])]
    )
    signed = "signed" if row["signed"] else "not signed"
    text = f"{model}: release {row['version']} is {row['tag']} in the registry, {signed}; {row['engines']}"
    console.answer(
        row, f"{text}\n{row['digest']}\nnext: ./scripts/promote {model}:{row['tag']}", as_json=args.json
    )
    return 0
