"""``retire``: take a model off the server; its releases stay, and ``up`` or ``redeploy`` brings it back."""

from __future__ import annotations

import argparse

from ops import arguments as shared
from ops import console, model_choice, operation_lock
from ops.errors import OpsError
from ops.rollout import Rollout
from ops.runtimes.selection import current
from ops.settings import load


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("name", nargs="?", metavar="MODEL", help="its name, as ./scripts/status has it")
    shared.one_model(parser)


def run(args: argparse.Namespace) -> int:
    """0 when the model is not served any more."""
    settings = load()
    runtime = current(settings, args.runtime)
    models = runtime.snapshot()
    wanted = args.name or args.model
    if wanted is None:  # never the only one by itself: this ends a service
        live = ", ".join(name for name, model in models.items() if model["live"])
        raise OpsError("no model was named", expected=f"one of: {live or 'none is live'}")
    (model,) = model_choice.known(models, [wanted])
    with operation_lock.held(settings, f"retirement of {model}"):
        version = Rollout(runtime, settings).retire(model)
    was = "was not live" if version is None else f"release {version} is off the server"
    text = f"{model}: {was}; its releases are kept: ./scripts/releases --model {model}"
    console.answer({"model": model, "previous": version}, text, as_json=args.json)
    return 0
