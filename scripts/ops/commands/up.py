"""``up``: build what changed, serve it and prove it; safe to run again."""

from __future__ import annotations

import argparse
import json
from typing import Any, Dict, List

from ops import arguments as shared
from ops import console, operation_lock
from ops.checks import machine
from ops.errors import OpsError
from ops.rollout import Rollout
from ops.runtimes.base import Runtime
from ops.runtimes.detection import choose
from ops.runtimes.native import spec_paths
from ops.runtimes.selection import create
from ops.services.native import PROFILES
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    shared.specs(parser)
    shared.device(parser)
    shared.profiles(parser, PROFILES)
    parser.add_argument("--force", action="store_true", help="build even when nothing changed")
    shared.quiet_gpu(parser)
    parser.add_argument(
        "--no-setup", action="store_true",
        help="use this interpreter and its packages (air-gapped machines, NVIDIA's containers)",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """0 when everything is served and tested."""
    settings = load()
    choice = choose(args.runtime, args.device, settings)
    console.progress(f"running {choice.why}")
    runtime = create(settings, choice.runtime, choice.device, setup=not args.no_setup, profiles=args.profile)
    machine.before_up(runtime, settings, setup=not args.no_setup)
    models = spec_paths(shared.names(args) or settings.models.split())
    summary = len(models) > 1 and not args.verbose
    if summary:
        console.hide_details()
    with operation_lock.held(settings, "up", setup=runtime.prepare):
        names = Rollout(runtime, settings, quiet_gpu=args.quiet_gpu).up(models, force=args.force)
        runtime.serve()
        runtime.serve_beside()
        smoke = _smoke(runtime, summary=summary, as_json=args.json)
    if args.json:
        console.answer({**_facts(runtime), "why": choice.why, "smoke": smoke}, "", as_json=True)
    else:
        _next(runtime, names)
    return 0


def _smoke(runtime: Runtime, *, summary: bool, as_json: bool) -> Dict[str, Any]:
    """The smoke test's findings as data; printed by the client itself, and empty, without ``as_json``."""
    remedy = "./scripts/status; the server is left running"
    first, *others = runtime.places()
    for place in others:
        # The first server's findings are shown whole; the others have the same releases.
        code, text = runtime.ask("client", ["smoke", "--summary", *place.options])
        if code:
            raise OpsError(f"the smoke test of {place.name} failed", details=text.strip(), remedy=remedy)
    if not as_json:
        if runtime.client(["smoke", *(["--summary"] if summary else []), *first.options]):
            raise OpsError("the smoke test failed (see above)", remedy=remedy)
        return {}
    code, text = runtime.ask("client", ["smoke", "--json", *first.options])
    try:
        answer: Dict[str, Any] = json.loads(text)
    except ValueError as e:
        raise OpsError(f"the smoke test ended with code {code} and no answer", remedy=remedy) from e
    if "error" in answer:
        raise OpsError.from_answer(answer["error"])
    if code:
        failed = [f"{c['model']}: {c['check']}: {c['detail']}" for c in answer["checks"] if not c["ok"]]
        raise OpsError("the smoke test failed", details="\n".join(failed), remedy=remedy)
    return answer


def _facts(runtime: Runtime) -> Dict[str, Any]:
    """What is served where."""
    models = {name: model for name, model in runtime.snapshot().items() if model["live"]}
    return {
        **runtime.status(),
        "models": [
            {"name": name, "version": m["live"], "weights": (m["manifest"] or {}).get("weights")}
            for name, m in models.items()
        ],
    }


def _beside(runtime: Runtime) -> str:
    """A line for each address of what runs beside the server."""
    shown = [row["shows"] for row in runtime.status()["services"]]
    return "".join(f"\n  {label:8} {where}" for lines in shown for label, where in lines.items())


def _next(runtime: Runtime, wanted: List[str]) -> None:
    models = {name: model for name, model in runtime.snapshot().items() if model["live"]}
    server = runtime.status()["server"]
    print(f"""
Triton is serving {", ".join(f"{name} (version {model['live']})" for name, model in models.items())}
  HTTP     http://{server["http"]}/v2/models/{next(iter(models))}
  gRPC     {server["grpc"]}
  metrics  http://{server["metrics"]}/metrics{_beside(runtime)}
next: ./scripts/status, ./scripts/up --model your-spec.yaml (README: your own model), ./scripts/down""")
    for name, model in models.items():
        weights = (model["manifest"] or {}).get("weights", {})
        if weights.get("untrained"):
            print(console.colour(f"{name}: weights are {weights['description']}", "warn"))
    for name in sorted(set(models) - set(wanted)):
        text = f"{name} is live too, and not in MODELS or --model: ./scripts/retire {name} takes it off"
        print(console.colour(text, "warn"))
