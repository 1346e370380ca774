"""Exported models in the cache: found by what shapes an export, made in staging, never half there."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict

from builder import hashing, progress
from builder.export import onnx_model, tensorflow
from builder.release import manifest
from builder.release.store import Store
from builder.spec.model import Spec
from models_volume import layout

_KEEP = 2  # of a model, in the cache


@dataclass(frozen=True)
class Export:
    """An ONNX file, its golden samples, and where its weights come from."""

    onnx: Path
    golden: Path
    weights: Dict[str, Any]


def get(spec: Spec, store: Store, work: Path, hashes: Dict[str, str], *, allow_untrained: bool) -> Export:
    """The model as the spec gives it, as the cache has it, or exported now.

    Args:
        work: an existing folder on the store's file system, for an export in the making.

    Raises:
        SourceError, ExportError: see ``tensorflow.export``. Nothing of it is left in the cache.
    """
    if spec.source.kind == "onnx":
        return _given(spec)
    cached = store.cache / f"{spec.name}-{manifest.export_key(spec, hashes)[:16]}"
    if not _intact(cached):
        cached = _export(spec, cached, work / "export", allow_untrained=allow_untrained)
        _forget_old(store, spec.name)
    data = json.loads((cached / "export.json").read_text("utf-8"))
    return Export(cached / layout.ONNX, cached / layout.GOLDEN, data["weights"])


def _given(spec: Spec) -> Export:
    assert spec.source.path is not None
    assert spec.source.golden is not None
    weights = onnx_model.get_weights(spec.source.path) or {
        "kind": "unknown",
        "untrained": False,
        "description": f"as in {spec.source.name}, which does not say where they come from",
    }
    return Export(spec.source.path, spec.source.golden, weights)


def _export(spec: Spec, cached: Path, fresh: Path, *, allow_untrained: bool) -> Path:
    fresh.mkdir()
    try:
        # Keras reports its downloads on standard output, where our caller's JSON goes.
        with progress.step(f"{spec.name}: TensorFlow to ONNX"), contextlib.redirect_stdout(sys.stderr):
            weights = tensorflow.export(spec, fresh, allow_untrained=allow_untrained)
        sums = {name: hashing.of_path(fresh / name) for name in (layout.ONNX, layout.GOLDEN)}
        (fresh / "export.json").write_text(json.dumps({"weights": weights, "sha256": sums}), "utf-8")
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    if weights["kind"] != (spec.source.weights.kind if spec.source.weights else "file"):
        # Not what was asked for, so not what is found next time: the download may work by then.
        cached = cached.with_name(f"{cached.name}-untrained")
    shutil.rmtree(cached, ignore_errors=True)
    return fresh.rename(cached)


def _intact(folder: Path) -> bool:
    try:
        sums = json.loads((folder / "export.json").read_text("utf-8"))["sha256"]
        return all(hashing.of_path(folder / name) == value for name, value in sums.items())
    except (OSError, ValueError, KeyError):
        return False


def _forget_old(store: Store, model: str) -> None:
    """Keep a model's newest exports; remove those that died in the making, as the code before left them."""
    for left in store.cache.glob(".*"):
        shutil.rmtree(left, ignore_errors=True)
    name = re.compile(re.escape(model) + "-[0-9a-f]{16}(-untrained)?")  # "net" is not "net-v2"
    mine = [p for p in store.cache.iterdir() if name.fullmatch(p.name)]
    for old in sorted(mine, key=lambda p: p.stat().st_mtime, reverse=True)[_KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
