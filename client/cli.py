"""``python -m client``: smoke."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from client import release, report
from client.errors import ClientError


def main(argv: list[str] | None = None) -> int:
    """Run a command. 0: all is well. 1: something is not, with the reason. 2: wrong usage."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except ClientError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m client", description="Talk to the Triton of this stack.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    smoke = commands.add_parser("smoke", help="prove that every live model is served as released")
    smoke.add_argument("--model", action="append", metavar="NAME", help="only this one (may be repeated)")
    smoke.add_argument("--json", action="store_true", help="print the findings as JSON")
    server_arguments(smoke)
    smoke.set_defaults(run=_smoke)
    return parser


def server_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the server and the models volume are; the environment gives the defaults."""

    def port(name: str, default: int) -> int:
        return int(os.environ.get(name) or default)

    parser.add_argument("--host", default=os.environ.get("TRITON_HOST") or "127.0.0.1")
    parser.add_argument("--http-port", type=int, default=port("HTTP_PORT", 8000))
    parser.add_argument("--grpc-port", type=int, default=port("GRPC_PORT", 8001))
    parser.add_argument("--metrics-port", type=int, default=port("METRICS_PORT", 8002))
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for each answer (60)")
    parser.add_argument(
        "--models-dir", type=Path, default=Path(os.environ.get("MODELS_DIR") or "models"), metavar="DIR"
    )


def _smoke(args: argparse.Namespace) -> int:
    from client.smoke import Smoke  # numpy and tritonclient take a while to import

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
