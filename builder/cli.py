"""``python -m builder``: export | build | publish | releases."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

import yaml

from builder import hashing, manifest, pipeline
from builder import spec as specs
from builder.errors import BuilderError
from builder.releases import Store


def main(argv: Optional[List[str]] = None) -> int:
    """Run a command; the one place that prints errors and sets the exit code.

    0: done (also when nothing had to be). 1: refused or failed, with the reason on standard error.
    2: wrong usage. 130: interrupted.
    """
    args = _parser().parse_args(argv)
    try:
        result = args.run(args)
    except BuilderError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    except OSError as e:
        where = f"{e.filename}: " if e.filename else ""
        print(f"error: {where}{e.strerror or e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; what was live is still live", file=sys.stderr)
        return 130
    if args.json:
        print(json.dumps(result, indent=2))
    return 0


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

    build = commands.add_parser("build", help="build each model's release and make it live")
    build.add_argument("models", nargs="+", metavar="MODEL", help="a shipped spec's name, or a spec file")
    build.add_argument(
        "--engine", choices=("tensorrt", "onnxruntime"), default=os.environ.get("ENGINE", "tensorrt")
    )
    build.add_argument("--force", action="store_true", help="build even when nothing changed")
    build.add_argument(
        "--no-activate", action="store_true", help="publish the release, leave the live one live"
    )
    _untrained(build)
    _volume(build)
    build.set_defaults(run=_build)

    publish = commands.add_parser("publish", help="make a release live")
    publish.add_argument("model", help="the model's name")
    publish.add_argument("version", type=int, nargs="?", help="its number; the newest when left out")
    _volume(publish)
    publish.set_defaults(run=_publish)

    releases = commands.add_parser("releases", help="list the releases")
    _volume(releases)
    releases.set_defaults(run=_releases)
    return parser


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
    files = [specs.find(m) for m in args.models]
    for file in files:
        specs.load(file)  # refuse the third model's spec before the first one's build
    store = Store(args.models_dir)
    return [
        pipeline.build(
            file,
            store,
            args.engine,
            allow_untrained=args.allow_untrained,
            force=args.force,
            activate=not args.no_activate,
        )
        for file in files
    ]


def _publish(args: argparse.Namespace) -> Dict[str, Any]:
    store = Store(args.models_dir)
    with store.lock(f"publish of {args.model}"):
        versions = store.versions(args.model)
        version = args.version or (versions[-1] if versions else 0)
        store.activate(args.model, version)
    print(f"{args.model}: release {version} is live", file=sys.stderr)
    return {"model": args.model, "version": version}


def _releases(args: argparse.Namespace) -> List[Dict[str, Any]]:
    store = Store(args.models_dir)
    rows = []
    for model in store.models():
        for version in store.versions(model):
            data = store.manifest(model, version)
            rows.append({"live": store.live(model) == version, **data})
    if not args.json:
        for row in rows:
            engine = row["engine"]
            print(
                f"{'*' if row['live'] else ' '} {row['model']} {row['version']}  {row['created']}  "
                f"{engine['name']} {engine['version']}  weights: {row['weights']['description']}"
            )
    return rows


def _export(args: argparse.Namespace) -> Dict[str, Any]:
    """The other end of ``source: {onnx: ...}``: everything a machine without TensorFlow needs."""
    file = specs.find(args.model)
    spec = specs.load(file)
    args.output.mkdir(parents=True, exist_ok=True)
    store = Store(args.output / ".export")
    try:
        hashes = manifest.source_hashes(spec)
        onnx, samples, weights = pipeline.source(spec, store, hashes, allow_untrained=args.allow_untrained)
        shutil.copyfile(onnx, args.output / "model.onnx")
        shutil.copyfile(samples, args.output / "golden.npz")
    finally:
        shutil.rmtree(store.root, ignore_errors=True)
    document = yaml.safe_load(file.read_text("utf-8"))
    document["source"] = {
        "onnx": "model.onnx",
        "sha256": hashing.of_path(args.output / "model.onnx"),
        "golden": "golden.npz",
    }
    for entry in document["inputs"]:
        entry.pop("samples", None)  # they are in golden.npz now
        entry.pop("tensor", None)
    for output, entry in zip(spec.outputs, document["outputs"]):
        entry.pop("tensor", None)
        if output.labels is not None:
            shutil.copyfile(output.labels, args.output / output.labels.name)
            entry["labels"] = output.labels.name
    written = args.output / f"{spec.name}.yaml"
    header = f"# Written by `python -m builder export`. Weights: {weights['description']}\n"
    written.write_text(header + yaml.safe_dump(document, sort_keys=False), "utf-8")
    print(f"{written}, with model.onnx and golden.npz; weights: {weights['description']}", file=sys.stderr)
    return {"spec": str(written), "weights": weights}
