"""``python -m builder``: the commands that export, build and publish, and those that make releases live."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

from builder import hashing, progress
from builder.errors import BuilderError, ReleaseError, SpecError
from builder.release.lifecycle import ModelReleases
from builder.release.store import Store
from builder.variants import command as variants
from models_volume import layout

# What only a build needs (ONNX, the spec's checks) is imported there: a command of the way back is quick so.

_ENGINES = ("tensorrt", "onnxruntime")


def main(argv: Optional[List[str]] = None) -> int:
    """Run a command; the one place that prints errors and sets the exit code.

    0: done (also when nothing had to be). 1: refused or failed, with the reason on standard error; with
    --json as {"error": ...} on standard output.
    2: wrong usage. 130: interrupted.
    """
    args = _parser().parse_args(argv)
    try:
        result = args.run(args)
    except BuilderError as e:
        return _fail(e, as_json=args.json)
    except OSError as e:
        where = f"{e.filename}: " if e.filename else ""
        return _fail(BuilderError(f"{where}{e.strerror or e}"), as_json=args.json)
    except KeyboardInterrupt:
        print("interrupted; what was live is still live", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps(result, indent=2))
    return 0


def _fail(error: BuilderError, *, as_json: bool) -> int:
    progress.show_hidden()
    if as_json:
        print(json.dumps({"error": error.facts()}))
    else:
        print(f"error: {error}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m builder", description="Build and publish model releases."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    export = commands.add_parser("export", help="write model.onnx, golden.npz and a spec that uses them")
    export.add_argument("model", help="a shipped spec's name, or a spec file")
    export.add_argument("--output", type=Path, required=True, metavar="DIR")
    export.add_argument("--json", action="store_true", help="print the result as JSON")
    _untrained(export)
    export.set_defaults(run=_export)

    for name, run, words in (
        ("build", _build, "build and publish each model's release; what is live stays live"),
        ("deploy", _deploy, "build each model's release and make it live"),
    ):
        build = commands.add_parser(name, help=words)
        build.add_argument("models", nargs="+", metavar="MODEL", help="a shipped spec's name, or a spec file")
        build.add_argument("--engine", choices=_ENGINES, default=os.environ.get("ENGINE") or "tensorrt")
        build.add_argument("--force", action="store_true", help="build even when nothing changed")
        if run is _build:
            build.add_argument("--dry-run", action="store_true", help="say what would be done, do nothing")
        _building(build)
        _volume(build)
        build.set_defaults(run=run)

    activate = commands.add_parser("activate", help="make a release live")
    activate.add_argument("model", help="the model's name")
    activate.add_argument("version", type=int, nargs="?", help="its number; the newest when left out")
    _flip(activate)
    activate.set_defaults(run=_activate)

    rollback = commands.add_parser("rollback", help="make the newest proven release below the live one live")
    rollback.add_argument("model", help="the model's name")
    rollback.add_argument("--to", type=int, metavar="N", help="an older release, by its number")
    _flip(rollback)
    rollback.set_defaults(run=_rollback)

    confirm = commands.add_parser("confirm", help="the pending release is proven")
    confirm.add_argument("model", help="the model's name")
    _volume(confirm)
    confirm.set_defaults(run=_confirm)

    revert = commands.add_parser("revert", help="mark the pending release failed and go back")
    revert.add_argument("model", help="the model's name")
    revert.add_argument("--reason", required=True, help="why it failed; kept with the release")
    revert.add_argument("--if-pending", action="store_true", help="do nothing where no change is pending")
    _volume(revert)
    revert.set_defaults(run=_revert)

    retire = commands.add_parser("retire", help="take a model off the server; its releases stay")
    retire.add_argument("model", help="the model's name")
    _volume(retire)
    retire.set_defaults(run=_retire)

    prune = commands.add_parser("prune", help="remove old releases; never the live one or the one before it")
    prune.add_argument("models", nargs="*", metavar="MODEL", help="models' names; all when left out")
    prune.add_argument("--keep", type=int, required=True, metavar="K", help="how many of the newest stay")
    _volume(prune)
    prune.set_defaults(run=_prune)

    releases = commands.add_parser("releases", help="list the releases")
    _volume(releases)
    releases.set_defaults(run=_releases)
    variants.add(commands)
    return parser


def _flip(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pending", action="store_true", help="confirm or revert will follow")
    parser.add_argument("--force", action="store_true", help="even a release that is marked failed")
    parser.add_argument(
        "--engine",
        choices=_ENGINES,
        help="what serves it: refuse a release that this engine, on this machine, cannot load",
    )
    _volume(parser)


def _building(parser: argparse.ArgumentParser) -> None:
    _untrained(parser)
    words = "wait at most so long (10) for a lull on the GPU before an engine is built, then build anyway"
    parser.add_argument("--quiet-gpu", type=_minutes, nargs="?", const=10.0, metavar="MINUTES", help=words)


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes <= 24 * 60:
        raise ValueError(text)
    return minutes


_minutes.__name__ = "number of minutes, above 0 and up to a day"  # argparse's own words name the function


def _untrained(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--allow-untrained",
        action="store_true",
        help="where ImageNet weights cannot be had, go on with seeded untrained ones, and say so everywhere",
    )


def _volume(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models-dir",
        type=Path,
        default=Path(os.environ.get("MODELS_DIR") or "models"),
        help="the models volume (default: $MODELS_DIR, else models/)",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def _build(args: argparse.Namespace) -> List[Dict[str, Any]]:
    from builder.release import build

    store, files = Store(args.models_dir), _checked(args)
    if args.dry_run:
        rows = [build.plan(file, store, args.engine, allow_untrained=args.allow_untrained) for file in files]
        for row in rows:
            print("\n  ".join([f"{row['model']}: would {row['would']}", *row["changes"]]), file=sys.stderr)
        return rows
    return [build.build(file, store, args.engine, **_how(args)) for file in files]


def _deploy(args: argparse.Namespace) -> List[Dict[str, Any]]:
    from builder.release import build

    store, files = Store(args.models_dir), _checked(args)
    return [build.deploy(file, store, args.engine, **_how(args)) for file in files]


def _how(args: argparse.Namespace) -> Dict[str, Any]:
    return {
        "allow_untrained": args.allow_untrained,
        "force": args.force,
        "quiet_gpu": args.quiet_gpu,
    }


def _checked(args: argparse.Namespace) -> List[Path]:
    """The spec files: the third model's spec is refused before the first one's build."""
    from builder.spec import loader as specs

    files = [specs.find(m) for m in args.models]
    for file in files:
        specs.load(file)
    return files


def _activate(args: argparse.Namespace) -> Dict[str, Any]:
    releases = ModelReleases(Store(args.models_dir), args.model)
    newest = max(releases.versions, default=0)
    return _make_live(args, releases, args.version if args.version is not None else newest)


def _rollback(args: argparse.Namespace) -> Dict[str, Any]:
    releases = ModelReleases(Store(args.models_dir, make=False), args.model)
    version = args.to if args.to is not None else releases.predecessor()
    if version is None:
        known = ", ".join(map(str, releases.versions)) or "none"
        raise ReleaseError(
            f"{args.model}: there is no proven release below the live one to go back to",
            expected=f"one of: {known}",
            remedy="name one with --to N",
        )
    if version == releases.live:
        raise ReleaseError(f"{args.model} release {version} is the live one already")
    return _make_live(args, releases, version)


def _make_live(args: argparse.Namespace, releases: ModelReleases, version: int) -> Dict[str, Any]:
    identity = None
    if args.engine:
        from builder import engine as engines

        identity = engines.create(args.engine).identity()
    needed = args.command != "rollback"  # which works where nothing can be written
    with releases.store.lock(f"{args.command} of {args.model}", needed=needed):
        previous = releases.activate(
            version,
            pending=args.pending,
            force=args.force,
            anyway=args.command == "rollback",
            engine=identity,
        )
        pending = releases.pending() is not None
    progress.say(f"{args.model}: release {version} is live{', to be proven' if pending else ''}")
    return {"model": args.model, "version": version, "previous": previous, "pending": pending}


def _confirm(args: argparse.Namespace) -> Dict[str, Any]:
    store = Store(args.models_dir, make=False)
    with store.lock(f"confirm of {args.model}", needed=False):
        return {"model": args.model, "version": ModelReleases(store, args.model).confirm()}


def _revert(args: argparse.Namespace) -> Dict[str, Any]:
    store = Store(args.models_dir, make=False)
    releases = ModelReleases(store, args.model)
    with store.lock(f"revert of {args.model}", needed=False):
        if args.if_pending and releases.pending() is None:
            return {"model": args.model, "version": None, "live": releases.live, "problems": []}
        done = releases.revert(args.reason)
    for line in done.problems:
        print(f"{args.model}: WARNING: {line}", file=sys.stderr)
    return {"model": args.model, "version": done.version, "live": done.live, "problems": done.problems}


def _retire(args: argparse.Namespace) -> Dict[str, Any]:
    store = Store(args.models_dir, make=False)
    with store.lock(f"retirement of {args.model}", needed=False):
        version = ModelReleases(store, args.model).retire()
    was = "was not live" if version is None else f"release {version} is not live any more"
    print(f"{args.model}: {was}; its releases are kept", file=sys.stderr)
    return {"model": args.model, "previous": version}


def _prune(args: argparse.Namespace) -> List[Dict[str, Any]]:
    if args.keep < 1:
        raise ReleaseError(f"--keep {args.keep}: found {args.keep}, allowed is 1 or more")
    store = Store(args.models_dir, make=False)
    rows = []
    if not store.models() and not args.models:
        return []
    with store.lock("prune", needed=False):
        for model in args.models or store.models():
            if model not in store.models():
                raise ReleaseError(f"there is no model {model}", expected=", ".join(store.models()) or "none")
            rows.append({"model": model, "removed": ModelReleases(store, model).prune(args.keep)})
    for row in rows:
        removed = ", ".join(map(str, row["removed"])) or "nothing"
        print(f"{row['model']}: removed {removed}", file=sys.stderr)
    return rows


def _releases(args: argparse.Namespace) -> List[Dict[str, Any]]:
    store = Store(args.models_dir, make=False)
    rows = [row for model in store.models() for row in ModelReleases(store, model).rows()]
    if not args.json:
        for row in rows:
            print(f"{row['model']} {row['version']}  {row['state']}  {_about(row)}")
    return rows


def _about(row: Dict[str, Any]) -> str:
    if row["state"] == "unreadable":
        return str(row["reason"])
    engine, weights = row["engine"], row["weights"]
    told = f"{row['created']}  {engine['name']} {engine['version']}  weights: {weights['description']}"
    evaluation = row.get("evaluation")
    return f"{told}  {evaluation['metric']} {evaluation['after']['accuracy']:.2%}" if evaluation else told


def _export(args: argparse.Namespace) -> Dict[str, Any]:
    """The other end of ``source: {onnx: ...}``: everything a machine without TensorFlow needs."""
    import yaml

    from builder.release import exports, sources
    from builder.spec import loader as specs
    from builder.spec import yaml_file

    file = specs.find(args.model)
    spec = specs.load(file)
    written = args.output / f"{spec.name}.yaml"
    if written.exists() and written.samefile(file):
        raise SpecError(
            f"{file} would be overwritten by its own export", remedy="--output another folder than the spec's"
        )
    args.output.mkdir(parents=True, exist_ok=True)
    store = Store(args.output / ".export")
    try:
        hashes = sources.hashes(spec)
        made = exports.get(
            spec,
            store,
            store.stage(spec.name),
            hashes,
            allow_untrained=args.allow_untrained,
            log=args.output / "export.log",
        )
        weights = made.weights
        shutil.copyfile(made.onnx, args.output / layout.ONNX)
        shutil.copyfile(made.golden, args.output / layout.GOLDEN)
    finally:
        shutil.rmtree(store.root, ignore_errors=True)
    document = yaml_file.read(file)
    document["source"] = {
        "onnx": layout.ONNX,
        "sha256": hashing.of_path(args.output / layout.ONNX),
        "golden": layout.GOLDEN,
    }
    if spec.evaluation is not None:  # the data stay where they are: they may be large
        place = os.path.relpath(spec.evaluation.path, args.output.resolve())
        document["evaluation"][spec.evaluation.kind] = place
    if spec.quantization is not None:
        place = os.path.relpath(spec.quantization.path, args.output.resolve())
        document["calibration"][spec.quantization.kind] = place
    for entry in document["inputs"]:
        entry.pop("samples", None)  # they are in golden.npz now
        entry.pop("tensor", None)
        if entry.get("preprocessing", {}).get("where") == "graph":
            del entry["preprocessing"]  # it is in model.onnx now
    for output, entry in zip(spec.outputs, document["outputs"]):
        entry.pop("tensor", None)
        if output.labels is not None:
            shutil.copyfile(output.labels, args.output / output.labels.name)
            entry["labels"] = output.labels.name
    header = f"# Written by `python -m builder export`. Weights: {weights['description']}\n"
    written.write_text(header + yaml.safe_dump(document, sort_keys=False), "utf-8")
    print(f"{written}, with model.onnx and golden.npz; weights: {weights['description']}", file=sys.stderr)
    return {"spec": str(written), "weights": weights}
