"""``python -m triton_stack_client.bench``: latency, run. ./scripts/latency and ./scripts/bench start it."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from triton_stack_client import arguments, model_choice
from triton_stack_client.bench import latency, machine, results
from triton_stack_client.bench.baseline import Baseline, OnnxRuntime, Trtexec
from triton_stack_client.bench.baseline_process import BaselineProcess
from triton_stack_client.bench.kept import Kept
from triton_stack_client.bench.perf import PerfAnalyzer
from triton_stack_client.bench.run import Plan, possible
from triton_stack_client.bench.run import run as measure
from triton_stack_client.errors import ClientError
from triton_stack_client.transport.protocol import Connection
from triton_stack_client.verify import release
from triton_stack_client.verify.release import Release


def main(argv: list[str] | None = None) -> int:
    """Run a command. 0: measured. 1: it could not be, with the reason. 2: wrong usage."""
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
    parser = argparse.ArgumentParser(prog="python -m triton_stack_client.bench", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, help_line, options, run in (
        ("latency", "one request at a time, served against local", arguments.latency, _latency),
        ("run", "the whole matrix, and a report", arguments.bench, _run),
    ):
        command = commands.add_parser(name, help=help_line)
        options(command)
        command.set_defaults(run=run)
    return parser


def _latency(args: argparse.Namespace) -> int:
    chosen, config, urls = _server(args)
    load = {"requests": args.requests, "batch": args.batch, "shared_memory": args.shared_memory}
    if chosen.engine["name"] == "tensorrt":
        baseline = Trtexec(args.trtexec or "trtexec", chosen, graph=True)
        rows = latency.after(chosen, baseline, urls, **load)
        how = f"trtexec {baseline.version}, host latency, in turns"
        threads = None
    else:
        with BaselineProcess(shlex.split(args.local), chosen, config) as local:
            rows = latency.measure(chosen, local, urls, **load)
        how = f"onnxruntime {local.version} with {local.threads} threads on both sides, in turns"
        threads = local.threads
    if args.json:
        facts = {
            "model": chosen.model,
            "version": chosen.version,
            "batch": args.batch,
            "threads": threads,
        }
        print(json.dumps({**facts, "ways": [asdict(r) for r in rows]}, indent=2))
        return 0
    print(
        f"{chosen.model} version {chosen.version}, batch {args.batch}, {args.requests} requests each; {how}"
    )
    print(f"{'':12} {'p50 ms':>9} {'p95 ms':>9} {'p99 ms':>9} {'p50 / direct':>13}")
    for r in rows:
        print(f"{r.way:12} {r.p50:9.2f} {r.p95:9.2f} {r.p99:9.2f} {r.ratio:13.3f}")
    return 0


def _run(args: argparse.Namespace) -> int:
    old = [results.load(path) for path in args.compare or []]
    if len(old) > 2:
        raise ClientError(
            f"--compare takes one run, or two to compare with each other; given were {len(old)}"
        )
    if len(old) == 2:
        _print_table(results.compare(*old), as_json=args.json)
        return 0
    chosen, config, urls = _server(args)
    folder = (
        args.out
        or Path(args.reports or args.models_dir / "bench")
        / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{chosen.model}"
    )
    try:
        folder.mkdir(parents=True)
    except OSError as e:
        raise ClientError(f"{folder}: cannot be made: {e.strerror}", remedy="--out names a new folder") from e
    plan = _plan(args, chosen)
    hosts = {protocol: url.partition("://")[2] for protocol, url in urls.items()}
    kept = Kept(folder, as_json=args.json)
    with kept.whatever_happens(), tempfile.TemporaryDirectory(prefix="bench-") as work, ExitStack() as stack:
        perf = PerfAnalyzer(args.perf_analyzer, args.libraries, chosen, hosts, Path(work))
        facts = _facts(args, chosen, perf.version)
        if not args.way:
            plan = replace(plan, ways=possible(perf, plan))
        baseline: Baseline
        if chosen.engine["name"] == "tensorrt":
            baseline = Trtexec(args.trtexec or "trtexec", chosen, graph=True)
        else:
            baseline = OnnxRuntime(
                stack.enter_context(BaselineProcess(shlex.split(args.local), chosen, config))
            )
        facts["baseline"] = f"{baseline.name} {baseline.version}"
        found = measure(plan, chosen, perf, baseline, urls, facts, kept.take)
        kept.take(found)
    if kept.problem:
        return 1
    if args.json:
        print((folder / results.FILE).read_text("utf-8"))
        return 0
    width = max(len(k) for k, _ in found.headline())
    print("\n".join(f"{k.ljust(width)}  {v}" for k, v in found.headline()))
    if chosen.untrained:
        print(f"weights: {chosen.weights} (the speed is the real model's)")
    print(f"{folder}/report.html")
    if old:
        _print_table(results.compare(old[0], found), as_json=False)
    return 0


def _server(args: argparse.Namespace) -> tuple[Release, dict[str, Any], dict[str, str]]:
    """The model, its configuration as served, and the URL of each protocol."""
    chosen = _only_live(args)
    urls = {
        protocol: f"{protocol}://{args.host}:{getattr(args, f'{protocol}_port')}"
        for protocol in ("grpc", "http")
    }
    connection = Connection("http", f"{args.host}:{args.http_port}", args.timeout)
    return chosen, connection.config(chosen.model, chosen.version), urls


def _only_live(args: argparse.Namespace) -> Release:
    found = release.live(args.models_dir, [args.model] if args.model else None)
    model_choice.only([r.model for r in found])
    return found[0]


def _plan(args: argparse.Namespace, chosen: Release) -> Plan:
    free = [str(t) for t in (*chosen.inputs, *chosen.outputs) if -1 in t.dims]
    if free:
        raise ClientError(
            f"{chosen.model} has free dimensions: {'; '.join(free)}",
            expected="tensors of one size: figures of different sizes do not compare",
            remedy="measure a spec whose dims are fixed at the size that matters",
        )
    opt = int(chosen.spec.get("batch", {}).get("opt") or min(32, chosen.max_batch))
    batches = args.batch or sorted({chosen.min_batch, opt})
    wrong = [b for b in batches if not chosen.min_batch <= b <= chosen.max_batch]
    if wrong:
        raise ClientError(
            f"--batch {wrong[0]}: {chosen.model} takes {chosen.min_batch} to {chosen.max_batch}"
        )
    if chosen.engine["name"] == "tensorrt":
        return Plan(
            ways=args.way or ["grpc", "http", "grpc+cuda"],
            batches=batches,
            concurrency=args.concurrency or [1, 8, 64, 256],
            loads=() if args.batch or args.concurrency else _gpu_loads(chosen, quick=args.quick),
            window=0.7 if args.quick else 2.0,
            trials=5 if args.quick else 8,
            turn=1.0 if args.quick else 2.0,
            requests=0,  # perf_analyzer's, by time
            rounds=3 if args.quick else 5,
        )
    return Plan(
        ways=args.way or ["grpc", "http"],
        batches=batches,
        concurrency=args.concurrency or ([1, 4] if args.quick else [1, 2, 4, 8, 16]),
        window=1.5 if args.quick else 4.0,
        trials=4 if args.quick else 8,
        turn=1.0 if args.quick else 2.5,
        requests=60 if args.quick else 200,
        rounds=3 if args.quick else 7,
    )


def _gpu_loads(chosen: Release, *, quick: bool) -> tuple[tuple[int, int], ...]:
    """Batch and clients of each point: one client, saturation with single images, and with batches."""
    low, batch = chosen.min_batch, min(32, chosen.max_batch)
    few = ((low, 1), (low, 256), (batch, 8))
    return few if quick else ((low, 1), (low, 8), (low, 64), (low, 256), (batch, 1), (batch, 8))


def _facts(args: argparse.Namespace, chosen: Release, perf_version: str) -> dict[str, Any]:
    server = Connection("http", f"{args.host}:{args.http_port}", args.timeout).server()
    return {
        "model": chosen.model,
        "version": chosen.version,
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": machine.describe(),
        "versions": {"triton": server["version"], "perf_analyzer": perf_version, **machine.versions()},
        "weights": chosen.weights,
        "untrained": chosen.untrained,
        "engine": f"{chosen.engine['name']} {chosen.engine['version']}",
        "spec": chosen.spec,
        "release": chosen.manifest.data,
        "latency_budget_ms": args.latency_budget_ms,
        "command": ["./scripts/bench", *sys.argv[2:]],
    }


def _print_table(rows: list[list[str]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([dict(zip(rows[0], row, strict=True)) for row in rows[1:]], indent=2))
        return
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
