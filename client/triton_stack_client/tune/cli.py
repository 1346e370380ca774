"""``python -m triton_stack_client.tune``: meter, report. ./scripts/tune starts them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from triton_stack_client.errors import ClientError


def main(argv: list[str] | None = None) -> int:
    """Run a command. 0: done. 1: it could not be, with the reason. 2: wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m triton_stack_client.tune", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    meter = commands.add_parser("meter", help="answer questions on standard input, a line of JSON each")
    meter.add_argument("--perf-analyzer", required=True, metavar="PROGRAM")
    meter.add_argument("--libraries", default="", metavar="DIR")
    meter.add_argument("--volume", type=Path, required=True, metavar="DIR", help="the scratch models volume")
    meter.add_argument("--nice", type=int, default=0, help="lower this process's priority by so much")
    report = commands.add_parser("report", help="write the page of a result")
    report.add_argument("result", type=Path, help="result.json; report.html is written beside it")
    args = parser.parse_args(argv)
    try:
        if args.command == "meter":
            from triton_stack_client.tune.meter import serve

            serve(args.perf_analyzer, args.libraries, args.volume, args.nice)
        else:
            from triton_stack_client.tune.page import render

            page = args.result.with_name("report.html")
            page.write_text(render(json.loads(args.result.read_text("utf-8"))), "utf-8")
    except (ClientError, OSError) as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    return 0
