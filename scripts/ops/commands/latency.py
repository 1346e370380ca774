"""``latency``: time single requests to Triton and the same engine called directly, in turns."""

from __future__ import annotations

import argparse

from ops import client_program
from ops.runtimes.selection import current
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """The client's."""
    client_program.add_arguments(parser, "latency")


def run(args: argparse.Namespace) -> int:
    """The client's exit code: 0 when it was measured."""
    settings = load()
    runtime = current(settings, args.runtime)
    client_program.prepare(runtime, [])
    argv = ["latency", *client_program.local_baseline(runtime), *client_program.forwarded(args.argv)]
    return client_program.run(args, settings, "triton_stack_client.bench", argv, runtime)
