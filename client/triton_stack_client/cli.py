"""``python -m triton_stack_client``: smoke, prove, classify, pictures, shadow."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from triton_stack_client import arguments
from triton_stack_client.errors import ClientError
from triton_stack_client.verify import release, report


def main(argv: list[str] | None = None) -> int:
    """Run a command. 0: all is well. 1: something is not, with the reason. 2: wrong usage."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except ClientError as e:
        if args.json:
            print(json.dumps({"error": e.facts()}))
        else:
            print(f"error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_program(), description="Talk to the Triton of this stack.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_line, options, run in (
        ("smoke", "prove that every live model is served as released", arguments.smoke, _smoke),
        ("prove", "wait until one version answers, and answers as released", arguments.prove, _prove),
        ("classify", "name what is on pictures", arguments.classify, _classify),
        ("pictures", "answer pictures sent over HTTP with their labels", arguments.pictures, _pictures),
        (
            "shadow",
            "compare a canary with another server on copied requests",
            arguments.shadow,
            _shadow,
        ),
    ):
        command = commands.add_parser(name, help=help_line)
        options(command)
        command.set_defaults(run=run)
    return parser


def _program() -> str:
    """What people typed: the installed command, or the module."""
    name = Path(sys.argv[0]).name
    return name if name == "triton-stack-client" else "python -m triton_stack_client"


def _classify(args: argparse.Namespace) -> int:
    from triton_stack_client.classify.command import (
        run,  # Pillow and asyncio are nothing to the other commands
    )

    return run(args)


def _pictures(args: argparse.Namespace) -> int:
    from triton_stack_client.pictures.command import run  # aiohttp

    return run(args)


def _shadow(args: argparse.Namespace) -> int:
    from triton_stack_client.shadow.command import run  # aiohttp

    return run(args)


def _prove(args: argparse.Namespace) -> int:
    from triton_stack_client.verify.readiness import prove

    target = release.read(args.models_dir, args.model, args.version)
    figures = prove(
        target, args.host, args.http_port, args.grpc_port, args.timeout, args.deadline, args.stale
    )
    if args.json:
        print(json.dumps(figures))
    else:
        print(f"{args.model} version {args.version} answers as released: {figures['requests']} requests")
    return 0


def _smoke(args: argparse.Namespace) -> int:
    from triton_stack_client.verify.smoke import Smoke  # numpy and tritonclient take a while to import

    releases = release.live(args.models_dir, args.model)
    smoke = Smoke(args.host, args.http_port, args.grpc_port, args.metrics_port, args.timeout)
    findings = list(smoke.run(releases))
    if args.json:
        models = {
            r.model: {"version": r.version, "weights": r.weights, "untrained": r.untrained} for r in releases
        }
        report.print_json(findings, models=models)
    elif args.summary:
        report.print_summary(findings)
    else:
        report.print_table(findings)
    return 0 if all(f.ok for f in findings) else 1
