"""``python -m triton_stack_client``: smoke, prove, classify."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from triton_stack_client.errors import ClientError
from triton_stack_client.verify import release, report


def main(argv: list[str] | None = None) -> int:
    """Run a command. 0: all is well. 1: something is not, with the reason. 2: wrong usage."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except ClientError as e:
        if args.json:
            print(json.dumps({"error": {"found": e.found, "remedy": e.remedy}}))
        else:
            print(f"error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m triton_stack_client", description="Talk to the Triton of this stack."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    smoke = commands.add_parser("smoke", help="prove that every live model is served as released")
    smoke.add_argument("--model", action="append", metavar="NAME", help="only this one (may be repeated)")
    smoke.add_argument("--json", action="store_true", help="print the findings as JSON")
    server_arguments(smoke)
    smoke.set_defaults(run=_smoke)
    prove = commands.add_parser("prove", help="wait until one version answers, and answers as released")
    prove.add_argument("model", help="the model's name")
    prove.add_argument("version", type=int, help="the release's number")
    prove.add_argument(
        "--deadline", type=float, default=60.0, metavar="S", help="seconds to become ready (60)"
    )
    prove.add_argument(
        "--stale", default="", metavar="REASON", help="Triton's reason from an earlier attempt"
    )
    prove.add_argument("--json", action="store_true", help="print the figures, or the error, as JSON")
    server_arguments(prove)
    prove.set_defaults(run=_prove)
    _classify_parser(commands)
    return parser


def _classify_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    classify = commands.add_parser("classify", help="name what is on pictures")
    classify.add_argument(
        "images", nargs="+", metavar="IMAGE", help="files, folders, quoted patterns, - for stdin"
    )
    classify.add_argument("--model", metavar="NAME", help="default: the only live one")
    classify.add_argument(
        "--url", help="http://host:port, grpc://host:port or host:port (default: this stack)"
    )
    classify.add_argument("--protocol", choices=("http", "grpc"), help="default: grpc")
    classify.add_argument("--top", type=positive, metavar="N", help="classes a picture (5)")
    classify.add_argument(
        "--batch", type=positive, metavar="N", help="pictures a request (default: the most)"
    )
    classify.add_argument(
        "--concurrency", type=positive, default=4, metavar="N", help="requests in flight (4)"
    )
    classify.add_argument(
        "--timeout", type=float, default=60.0, metavar="S", help="seconds a request, retries included (60)"
    )
    classify.add_argument("--shared-memory", choices=("auto", "system", "off"), default="auto")
    classify.add_argument(
        "--models-dir", type=Path, metavar="DIR", help="of the server (default: MODELS_DIR, without --url)"
    )
    form = classify.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--csv", action="store_true", help="a row for each picture and rank")
    classify.set_defaults(run=_classify)


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _classify(args: argparse.Namespace) -> int:
    from triton_stack_client.classify.command import (
        run,  # Pillow and asyncio are nothing to the other commands
    )

    return run(args)


def server_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the server and the models volume are; the environment gives the defaults."""

    def port(name: str, default: int) -> str:
        return os.environ.get(name) or str(default)  # argparse reads it, and refuses it in its own words

    parser.add_argument("--host", default=os.environ.get("TRITON_HOST") or "127.0.0.1")
    parser.add_argument("--http-port", type=int, default=port("HTTP_PORT", 8000))
    parser.add_argument("--grpc-port", type=int, default=port("GRPC_PORT", 8001))
    parser.add_argument("--metrics-port", type=int, default=port("METRICS_PORT", 8002))
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for each answer (60)")
    parser.add_argument(
        "--models-dir", type=Path, default=Path(os.environ.get("MODELS_DIR") or "models"), metavar="DIR"
    )


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
    else:
        report.print_table(findings)
    return 0 if all(f.ok for f in findings) else 1
