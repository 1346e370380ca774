"""``classify``: name what is on pictures: files, folders, quoted patterns or standard input."""

from __future__ import annotations

import argparse

from ops import client_program
from ops.runtimes import environments
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """The client's."""
    client_program.add_arguments(parser, "classify")


def run(args: argparse.Namespace) -> int:
    """The client's exit code: 0 when every picture was classified."""
    environments.ensure(["client"])
    argv = ["classify", *client_program.forwarded(args.argv)]
    return client_program.run(args, load(), "triton_stack_client", argv)
