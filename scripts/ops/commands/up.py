"""``up``: choose, set up, build, serve, smoke-test, say where to go next."""

from __future__ import annotations

import argparse
from typing import List

from ops import console, operation_lock
from ops.checks import machine
from ops.errors import OpsError
from ops.rollout import Rollout
from ops.runtimes.base import RUNTIMES, Runtime
from ops.runtimes.detection import choose
from ops.runtimes.native import spec_paths
from ops.runtimes.selection import create
from ops.settings import Settings, load


def main(argv: List[str]) -> int:
    """Run it; 0 when everything is served and tested."""
    args = _parser().parse_args(argv)
    settings = load()
    choice = choose(args.runtime, args.device, settings)
    console.progress(f"running {choice.why}")
    runtime = create(settings, choice.runtime, choice.device, setup=not args.no_setup)
    machine.before_up(runtime, settings, setup=not args.no_setup)
    runtime.prepare()
    models = spec_paths([m for group in args.model for m in group] or settings.models.split())
    with operation_lock.held(settings, "up"):
        Rollout(runtime, settings).up(models, force=args.force)
        runtime.serve()
        if runtime.smoke():
            raise OpsError(
                "the smoke test failed (see above); the server is left running", remedy="./scripts/status"
            )
    _next(settings, runtime)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./scripts/up",
        description="Build the models, serve them with Triton, prove it. Safe to run again.",
    )
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    parser.add_argument("--device", choices=("auto", "gpu", "cpu"), default="auto")
    parser.add_argument(
        "--model", nargs="+", action="append", default=[], metavar="NAME|FILE",
        help="shipped specs' names or spec files (default: $MODELS)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="build even when nothing changed")
    parser.add_argument(
        "--no-setup", action="store_true",
        help="use this interpreter and its packages (air-gapped machines, NVIDIA's containers)",
    )  # fmt: skip
    return parser


def _next(settings: Settings, runtime: Runtime) -> None:
    models = {name: model for name, model in runtime.snapshot().items() if model["live"]}
    print(f"""
Triton is serving {", ".join(f"{name} (version {model['live']})" for name, model in models.items())}
  HTTP     http://{settings.host}:{settings.http_port}/v2/models/{next(iter(models))}
  gRPC     {settings.host}:{settings.grpc_port}
  metrics  http://{settings.host}:{settings.metrics_port}/metrics
next: ./scripts/status, ./scripts/up --model your-spec.yaml (README: your own model), ./scripts/down""")
    for name, model in models.items():
        weights = (model["manifest"] or {}).get("weights", {})
        if weights.get("untrained"):
            print(console.colour(f"{name}: weights are {weights['description']}", "warn"))
