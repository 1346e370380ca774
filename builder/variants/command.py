"""``describe``, ``variants`` and ``patch``: what ``./scripts/tune`` asks of the builder."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.errors import SpecError

if TYPE_CHECKING:  # what only these commands need is imported by them
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add(commands: Commands) -> None:
    """The three commands."""
    describe = commands.add_parser("describe", help="a spec's batch sizes and serving keys, as they count")
    describe.add_argument("model", help="a shipped spec's name, or a spec file")
    describe.add_argument("--json", action="store_true", help="print the result as JSON")
    describe.set_defaults(run=_describe)

    variants = commands.add_parser("variants", help="lay variants of a release out for a scratch server")
    variants.add_argument("model", help="a shipped spec's name, or a spec file")
    variants.add_argument("--release", type=Path, required=True, metavar="DIR", help="the live release")
    variants.add_argument("--wanted", type=Path, required=True, metavar="FILE", help="name to changed keys")
    variants.add_argument("--engine", choices=("tensorrt", "onnxruntime"), required=True)
    variants.add_argument("--models-dir", type=Path, required=True, metavar="DIR", help="a scratch volume")
    variants.add_argument("--json", action="store_true", help="print the result as JSON")
    variants.set_defaults(run=_variants)

    patch = commands.add_parser("patch", help="write other keys into a spec's text, comments kept")
    patch.add_argument("model", help="a shipped spec's name, or a spec file")
    patch.add_argument("--changes", required=True, metavar="JSON", help="the keys and what they become")
    patch.add_argument(
        "--into", type=Path, metavar="DIR", help="write a copy there, with the files that the spec names"
    )
    patch.add_argument("--json", action="store_true", help="print the result as JSON")
    patch.set_defaults(run=_patch)


def _describe(args: argparse.Namespace) -> dict[str, Any]:
    from builder.variants.describe import describe

    found = describe(args.model)
    if not args.json:
        print(f"{found['name']}: batch {found['batch']}, serving {found['serving']}")
    return found


def _variants(args: argparse.Namespace) -> list[dict[str, Any]]:
    from builder.release.store import Store
    from builder.spec import loader
    from builder.variants import candidates

    origin = candidates.Origin(loader.find(args.model).resolve(), args.release.resolve(), args.engine)
    wanted = json.loads(args.wanted.read_text("utf-8"))
    return candidates.make(origin, wanted, Store(args.models_dir))


def _patch(args: argparse.Namespace) -> dict[str, Any]:
    """Write the changed spec in place of the old one, or, with --into, as a copy elsewhere."""
    from builder.release import sources
    from builder.spec import loader
    from builder.variants.edit import edited

    file = loader.find(args.model).resolve()
    text = edited(file.read_text("utf-8"), json.loads(args.changes))
    target = (args.into / file.name if args.into else file).resolve()
    if args.into and target.exists():
        raise SpecError(f"{target} is there already", remedy="move it away, or name that file to tune")
    copies = sources.files(loader.load(file)).values() if args.into else ()
    for path in copies:
        if not path.is_relative_to(file.parent):
            continue  # named by an absolute path, which the copy's text has too
        place = target.parent / path.relative_to(file.parent)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, place, dirs_exist_ok=True)
        else:
            shutil.copyfile(path, place)
    fresh = target.with_name(f".{target.name}.new")
    try:
        fresh.write_text(text, "utf-8")
        if target.exists():
            shutil.copymode(target, fresh)
        loader.load(fresh)  # refused with all its mistakes, before anything is replaced
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    if not args.json:
        print(f"{target}: written")
    return {"file": str(target)}
