"""``push``, ``promote`` and ``pull`` of ``python -m cluster``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

_ENGINES = ("tensorrt", "onnxruntime")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The three parsers."""
    push = commands.add_parser("push", help="push a release of this machine to the registry")
    _model(push)
    push.add_argument(
        "version", type=int, nargs="?", metavar="N", help="its number here (default: the live one)"
    )
    push.add_argument(
        "--as", dest="number", type=int, metavar="N", help="its number in the registry (default: as here)"
    )
    _volume(push)
    push.set_defaults(run=_push)

    promote = commands.add_parser("promote", help="let the tag live name a release in the registry")
    _model(promote)
    promote.add_argument("ref", metavar="N|DIGEST", help="its number or its digest in the registry")
    promote.add_argument("--json", action="store_true", help="print the result as JSON")
    promote.set_defaults(run=_promote)

    pull = commands.add_parser("pull", help="take over a release from the registry; not live")
    _model(pull)
    pull.add_argument("ref", nargs="?", default="live", metavar="N|live|DIGEST", help="which (default: live)")
    pull.add_argument("--engine", choices=_ENGINES, default=os.environ.get("ENGINE") or "tensorrt")
    pull.add_argument(
        "--push", action="store_true", help="where an engine had to be built for this machine, push it too"
    )
    _volume(pull)
    pull.set_defaults(run=_pull)


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="the model's name")


def _volume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models-dir",
        type=Path,
        default=Path(os.environ.get("MODELS_DIR") or "models"),
        help="the models volume (default: $MODELS_DIR, else models/)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


# What a registry and a build need is imported when they run.


def _push(args: argparse.Namespace) -> dict[str, Any]:
    from builder.release.store import Store
    from cluster.artifact.place import Place
    from cluster.artifact.push import push

    number = "" if args.number is None else str(args.number)
    return push(Place.of(), Store(args.models_dir, make=False), args.model, args.version, number)


def _promote(args: argparse.Namespace) -> dict[str, Any]:
    from cluster.artifact.place import Place
    from cluster.artifact.promote import promote

    return promote(Place.of(), args.model, args.ref)


def _pull(args: argparse.Namespace) -> dict[str, Any]:
    from builder.errors import BuilderError
    from builder.release.store import Store
    from cluster.artifact.errors import BuildError
    from cluster.artifact.place import Place
    from cluster.artifact.pull import pull
    from cluster.artifact.push import push

    try:
        store = Store(args.models_dir)
    except BuilderError as e:
        raise BuildError(e) from e
    place = Place.of()
    row = pull(place, store, args.model, args.ref, args.engine)
    if args.push and row["action"] == "built":
        row["pushed"] = push(place, store, args.model, row["version"])
    return row
