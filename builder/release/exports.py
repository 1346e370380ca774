"""Exported models in the cache: found by what shapes an export, made in staging, never half there."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Optional

from builder import hashing, progress
from builder.export import onnx_answers, onnx_model, tensorflow
from builder.release import manifest
from builder.release.store import Store
from builder.spec.model import Spec
from models_volume import layout

_KEEP = 2  # of a model, in the cache


@dataclass(frozen=True)
class Export:
    """An ONNX file, its golden samples, whose answers those are, and where its weights come from."""

    onnx: Path
    golden: Path
    weights: Dict[str, Any]
    reference: str = "the source model's answers"


def get(
    spec: Spec,
    store: Store,
    work: Path,
    hashes: Dict[str, str],
    *,
    allow_untrained: bool,
    log: Optional[Path] = None,
) -> Export:
    """The model as the spec gives it, as the cache has it, or exported now.

    Args:
        work: an existing folder on the store's file system, for an export in the making.
        log: where a failed export's traceback goes; in ``logs/`` of the store when left out.

    Raises:
        SourceError, ExportError: see ``tensorflow.export`` and ``onnx_answers.write``. Nothing of it is left
            in the cache.
    """
    onnx = spec.source.path if spec.source.kind == "onnx" else None
    if onnx is not None and spec.source.golden is not None:
        return Export(onnx, spec.source.golden, _weights_of(onnx))
    cached = store.cache / f"{spec.name}-{manifest.export_key(spec, hashes)[:16]}"
    if not _intact(cached):
        log = log or store.volume.logs / f"{spec.name}.export.log"
        cached = _make(spec, cached, work / "export", log, allow_untrained=allow_untrained)
        _forget_old(store, spec.name)
    data = json.loads((cached / "export.json").read_text("utf-8"))
    if onnx is not None:
        return Export(onnx, cached / layout.GOLDEN, data["weights"], onnx_answers.REFERENCE)
    return Export(cached / layout.ONNX, cached / layout.GOLDEN, data["weights"])


def _weights_of(onnx: Path) -> Dict[str, Any]:
    return onnx_model.get_weights(onnx) or {
        "kind": "unknown",
        "untrained": False,
        "description": f"as in {onnx.name}, which does not say where they come from",
    }


def _make(spec: Spec, cached: Path, fresh: Path, log: Path, *, allow_untrained: bool) -> Path:
    fresh.mkdir()
    try:
        weights = _answers(spec, fresh) or _export(spec, fresh, log, allow_untrained=allow_untrained)
        sums = {path.name: hashing.of_path(path) for path in fresh.iterdir()}
        (fresh / "export.json").write_text(json.dumps({"weights": weights, "sha256": sums}), "utf-8")
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    asked = spec.source.weights
    if weights["untrained"] and asked is not None and asked.kind != "untrained":
        # Not what was asked for, so not what is found next time: the download may work by then.
        cached = cached.with_name(f"{cached.name}-untrained")
    shutil.rmtree(cached, ignore_errors=True)
    return fresh.rename(cached)


def _answers(spec: Spec, fresh: Path) -> Optional[Dict[str, Any]]:
    """Golden samples for a model that is ONNX already; None for one that is to be exported."""
    if spec.source.kind != "onnx":
        return None
    assert spec.source.path is not None
    progress.say(f"{spec.name}: no golden samples are given; parity is against {onnx_answers.REFERENCE}")
    onnx_answers.write(spec, spec.source.path, fresh / layout.GOLDEN)
    return _weights_of(spec.source.path)


def _export(spec: Spec, fresh: Path, log: Path, *, allow_untrained: bool) -> Dict[str, Any]:
    # Keras reports its downloads on standard output, where our caller's JSON goes.
    with progress.step(f"{spec.name}: TensorFlow to ONNX"), contextlib.redirect_stdout(sys.stderr):
        return tensorflow.export(spec, fresh, log, allow_untrained=allow_untrained)


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
