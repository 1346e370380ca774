"""``promote``: let the tag live of the registry name a release, which nodes without a rollout then serve.

    ./scripts/promote resnet50:3

The nodes' agents go to it at once, all of them. `./scripts/rollout` goes node by node and moves the tag last.
"""

from __future__ import annotations

import argparse
from typing import Tuple

from ops import console, rollout
from ops.errors import OpsError
from ops.runtimes.selection import current
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("release", metavar="MODEL:N|MODEL@DIGEST", help="the release, as the registry has it")


def run(args: argparse.Namespace) -> int:
    """0 when the tag names it."""
    model, ref = split(args.release)
    if not ref:
        raise OpsError(f"{args.release} names no release", expected="MODEL:N or MODEL@sha256:...")
    row = rollout.ask(current(load(), args.runtime), "cluster", ["promote", model, ref])
    text = f"{model}: live in the registry is {row['tag']} ({row['digest']})"
    console.answer(row, text, as_json=args.json)
    return 0


def split(text: str) -> Tuple[str, str]:
    """MODEL, MODEL:TAG or MODEL@DIGEST: the model, and what is named of it or nothing."""
    model, at, ref = text.partition("@")
    if not at:
        model, _, ref = text.partition(":")
    return model, ref
