"""``pull``: take over a release from the registry: onto this machine's models volume, and live with --live.

    ./scripts/pull resnet50 --live     what is live in the registry
    ./scripts/pull resnet50:3          release 3, which `./scripts/rollback --to` then makes live

It goes through the gates of a build: signature, hashes, compatibility, parity on this machine. Where the
registry has no engine for this machine's GPU, one is built of the release's ONNX file.
"""

from __future__ import annotations

import argparse

from ops import console, operation_lock, rollout
from ops.commands.promote import split
from ops.rollout import Rollout
from ops.runtimes.selection import current
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument(
        "release", metavar="MODEL[:N|@DIGEST]", help="the release (default: the one that is live)"
    )
    parser.add_argument("--live", action="store_true", help="make it live, and prove it, as a redeploy does")
    parser.add_argument("--push", action="store_true", help="push an engine that had to be built here")


def run(args: argparse.Namespace) -> int:
    """0 when it is here, and with --live serves."""
    settings = load()
    runtime = current(settings, args.runtime)
    if args.live:
        rollout.serving(runtime)
    model, ref = split(args.release)
    engine = "tensorrt" if runtime.device == "gpu" else "onnxruntime"
    words = ["pull", model, ref or "live", "--engine", engine, *(["--push"] if args.push else [])]
    with operation_lock.held(settings, f"pull of {model}", setup=runtime.prepare):
        row = rollout.ask(runtime, "cluster", words)
        live = runtime.snapshot()[model]["live"]
        if args.live and live != row["version"]:
            driver = Rollout(runtime, settings)
            driver.settle()
            stale = runtime.server.reason(model, row["version"])
            driver.rollback(model, row["version"], force=False, stale=stale)
            live = row["version"]
    text = f"{model}: release {row['version']} here is {row['digest']}"
    more = (
        "it is live"
        if live == row["version"]
        else (f"next: ./scripts/rollback --model {model} --to {row['version']} makes it live")
    )
    console.answer({**row, "live": live}, f"{text}\n{more}", as_json=args.json)
    return 0
