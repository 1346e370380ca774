"""The whole way: spec -> export -> engine -> verify -> release -> live."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

from builder import engine as engines
from builder import hashing, progress
from builder.engine import LOG, Engine
from builder.export import golden, onnx_model, tensorflow
from builder.release import lifecycle, manifest, parity
from builder.release.model_config import config_pbtxt, labels_name
from builder.release.store import Store, now
from builder.spec import loader as specs
from builder.spec.model import Spec
from models_volume import layout

_KEEP_EXPORTS = 2  # of a model, in the cache


def build(
    file: Path, store: Store, engine_name: str, *, allow_untrained: bool, force: bool, activate: str
) -> Dict[str, Any]:
    """Build a spec's release and make it live; with an unchanged fingerprint, do nothing.

    Args:
        engine_name: "tensorrt" or "onnxruntime".
        allow_untrained: where ImageNet weights cannot be had, go on with seeded untrained ones.
        force: build even when nothing changed.
        activate: "now" makes the release live; "pending" too, for somebody to confirm or revert; "no"
            only publishes it.

    Returns:
        What was done: model, version, action ("built", "reactivated", "unchanged"), manifest.

    Raises:
        BuilderError: any of its kinds; the live release is then what it was before.
    """
    spec = specs.load(file)
    engine = engines.create(engine_name)
    hashes = manifest.source_hashes(spec)
    identity = engine.identity()
    print_ = manifest.fingerprint(spec, hashes, identity)
    with store.lock(f"build of {spec.name}"):
        if not force:
            done = _already_built(spec, store, print_, allow_untrained=allow_untrained, activate=activate)
            if done is not None:
                return done
        began = time.monotonic()
        version = store.next_version(spec.name)
        progress.say(
            f"{spec.name}: building release {version} ({identity['name']} {identity['version']}, "
            f"{identity['gpu']['name'] if identity['gpu'] else 'CPU'})"
        )
        staged = store.stage(spec.name)
        release, work = staged / "release", staged / "work"
        work.mkdir()
        (release / "model" / str(version)).mkdir(parents=True)
        facts = _make(spec, store, engine, release, work, version, hashes, allow_untrained=allow_untrained)
        facts["seconds"]["all"] = time.monotonic() - began
        data = manifest.make(
            spec,
            version=version,
            created=now(),
            fingerprint=print_,
            hashes=hashes,
            ngc_tag=os.environ.get("NGC_TAG") or None,
            **facts,
        )
        (release / layout.MANIFEST).write_text(json.dumps(data, indent=2) + "\n", "utf-8")
        store.publish(release, spec.name, version)
        store.audit("publish", model=spec.name, version=version, fingerprint=print_)
        shutil.rmtree(staged)
        previous = _activate(store, spec.name, version, activate)
        return {
            "model": spec.name, "version": version, "action": "built", "previous": previous, "manifest": data,
        }  # fmt: skip


def plan(file: Path, store: Store, engine_name: str) -> Dict[str, Any]:
    """What ``build`` would do, and why; changes nothing.

    Returns:
        model, live (a number or None), would (words), changes (lines).

    Raises:
        BuilderError: the spec, its files or the engine are not to be had.
    """
    spec = specs.load(file)
    identity = engines.create(engine_name).identity()
    hashes = manifest.source_hashes(spec)
    wanted = manifest.fingerprint(spec, hashes, identity)
    now_live = store.live(spec.name)
    row: Dict[str, Any] = {"model": spec.name, "live": now_live, "changes": []}
    if now_live is None:
        return {**row, "would": "build its first release"}
    data = store.manifest(spec.name, now_live)
    if data["fingerprint"] == wanted:
        return {**row, "would": f"do nothing: release {now_live} is as the spec says"}
    here = {"spec": spec.as_json(), "sha256": hashes, "engine": identity, "tools": manifest.tools()}
    there = {
        "spec": data["spec"],
        "sha256": data["source"]["sha256"],
        "engine": {key: data["engine"].get(key) for key in identity},
        "tools": data["tools"],
    }
    if spec.source.kind == "onnx":
        here["tools"] = there["tools"]  # they had no part in it
    lines = manifest.changes(there, here) or ["the builder's own code"]
    return {**row, "would": f"build a release after {now_live}", "changes": lines}


def _activate(store: Store, model: str, version: int, activate: str) -> Optional[int]:
    if activate == "no":
        progress.say(f"{model}: release {version} is published, not live")
        return store.live(model)
    previous = lifecycle.activate(store, model, version, pending=activate == "pending")
    progress.say(f"{model}: release {version} is live{', to be proven' if activate == 'pending' else ''}")
    return previous


def _already_built(
    spec: Spec, store: Store, print_: str, *, allow_untrained: bool, activate: str
) -> Optional[Dict[str, Any]]:
    """The release that has this fingerprint, live or not (a build killed before its flip, or a spec set
    back to what it was): nothing needs to be built for it."""
    now_live = store.live(spec.name)
    for version in sorted(store.versions(spec.name), key=lambda v: (v == now_live, v), reverse=True):
        if lifecycle.failure(store, spec.name, version) is not None:
            continue
        if store.damage(spec.name, version):
            progress.say(f"{spec.name}: release {version} is damaged: {store.damage(spec.name, version)}")
            continue
        data = store.manifest(spec.name, version)
        if data.get("fingerprint") != print_:
            continue
        if _makeshift(spec, data["weights"]) and not allow_untrained:
            progress.say(f"{spec.name}: release {version} will not do: {data['weights']['description']}")
            continue
        _warn(spec, data["weights"])
        previous = now_live
        if version == now_live or activate == "no":
            progress.say(f"{spec.name}: nothing changed since release {version}; nothing is built")
            action = "unchanged"
        else:
            progress.say(f"{spec.name}: release {version} is this very build; it goes live again")
            previous = _activate(store, spec.name, version, activate)
            action = "reactivated"
        return {
            "model": spec.name, "version": version, "action": action, "previous": previous, "manifest": data,
        }  # fmt: skip
    return None


def _makeshift(spec: Spec, weights: Dict[str, Any]) -> bool:
    """Whether these are untrained weights in place of the trained ones that the spec names."""
    asked = spec.source.weights
    return bool(weights["untrained"]) and asked is not None and asked.kind != "untrained"


def _warn(spec: Spec, weights: Dict[str, Any]) -> None:
    if weights["untrained"]:
        progress.say(f"{spec.name}: WARNING: weights are {weights['description']}")


def _make(
    spec: Spec,
    store: Store,
    engine: Engine,
    release: Path,
    work: Path,
    version: int,
    hashes: Dict[str, str],
    *,
    allow_untrained: bool,
) -> Dict[str, Any]:
    """Fill the release folder; returns what the manifest says of it."""
    seconds: Dict[str, float] = {}
    began = time.monotonic()
    onnx, samples, weights = source(spec, store, hashes, allow_untrained=allow_untrained)
    onnx_model.check(onnx, spec, engine.max_opset)
    inputs, outputs = golden.load(samples, spec)
    _warn(spec, weights)
    seconds["export"] = time.monotonic() - began
    model = release / "model"
    file = model / str(version) / engine.filename
    with progress.step(f"{spec.name}: {engine.name} engine"):
        built = engine.build(spec, onnx, file, work)
    seconds["engine"] = built.seconds
    began = time.monotonic()
    with progress.step(f"{spec.name}: parity at batch {', '.join(map(str, spec.batch.sizes()))}"):
        figures = parity.verify(spec, engine, file, inputs, outputs, work)
    seconds["verify"] = time.monotonic() - began
    (model / "config.pbtxt").write_text(config_pbtxt(spec, engine, weights, version), "utf-8")
    for output in spec.outputs:
        if output.labels is not None:
            shutil.copyfile(output.labels, model / labels_name(spec, output.name))
    for path, name in ((onnx, layout.ONNX), (samples, layout.GOLDEN), (work / LOG, LOG)):
        shutil.copyfile(path, release / name)
    return {
        "engine": {
            **built.identity,
            "file": engine.filename,
            "bytes": file.stat().st_size,
            "sha256": hashing.of_path(file),
            "argv": built.argv,
        },
        "weights": weights,
        "parity": figures,
        "seconds": seconds,
    }


def source(
    spec: Spec, store: Store, hashes: Dict[str, str], *, allow_untrained: bool
) -> Tuple[Path, Path, Dict[str, Any]]:
    """The ONNX file, the golden samples and the weights' provenance: given, cached, or exported now."""
    if spec.source.kind == "onnx":
        assert spec.source.path is not None
        assert spec.source.golden is not None
        weights = onnx_model.get_weights(spec.source.path) or {
            "kind": "unknown",
            "untrained": False,
            "description": f"as in {spec.source.name}, which does not say where they come from",
        }
        return spec.source.path, spec.source.golden, weights
    key = manifest.export_key(spec, hashes)
    cached = store.cache / f"{spec.name}-{key[:16]}"
    if not _intact(cached):
        fresh = store.cache / f".{cached.name}-{os.getpid()}"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        # Keras reports its downloads on standard output, where our caller's JSON goes.
        with progress.step(f"{spec.name}: TensorFlow to ONNX"), contextlib.redirect_stdout(sys.stderr):
            weights = tensorflow.export(spec, fresh, allow_untrained=allow_untrained)
        sums = {n: hashing.of_path(fresh / n) for n in (layout.ONNX, layout.GOLDEN)}
        (fresh / "export.json").write_text(json.dumps({"weights": weights, "sha256": sums}), "utf-8")
        if weights["kind"] != (spec.source.weights.kind if spec.source.weights else "file"):
            # Not what was asked for, so not what is found next time: the download may work by then.
            cached = cached.with_name(f"{cached.name}-untrained")
        shutil.rmtree(cached, ignore_errors=True)
        fresh.rename(cached)
        _forget_old_exports(store, spec.name)
    data = json.loads((cached / "export.json").read_text("utf-8"))
    return cached / layout.ONNX, cached / layout.GOLDEN, data["weights"]


def _intact(folder: Path) -> bool:
    try:
        sums = json.loads((folder / "export.json").read_text("utf-8"))["sha256"]
        return all(hashing.of_path(folder / name) == value for name, value in sums.items())
    except (OSError, ValueError, KeyError):
        return False


def _forget_old_exports(store: Store, model: str) -> None:
    for left in store.cache.glob(f".{model}-*"):
        shutil.rmtree(left, ignore_errors=True)
    mine = [p for p in store.cache.iterdir() if p.name.startswith(f"{model}-")]
    for old in sorted(mine, key=lambda p: p.stat().st_mtime, reverse=True)[_KEEP_EXPORTS:]:
        shutil.rmtree(old, ignore_errors=True)
