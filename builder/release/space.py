"""Is there room on the models volume for the release that is about to be built?

Asked before anything is written, by the size of the model at hand: a build that runs out of disk after
minutes has cost them all.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Iterable, Optional

from builder.errors import ReleaseError
from builder.release.store import Store
from builder.spec.model import Spec
from models_volume import layout

# A model that is downloaded has no size yet. Most of keras.applications' weights are below this
# (ResNet50: 98 MiB, ResNet152V2: 232 MiB; the largest, VGG19, has 549 MiB).
_UNKNOWN = 250 << 20
# What a build writes, in sizes of the model: the copy of the source that is hashed and built from, the export
# in the cache, its copy in the release, and the engine, which is no larger than the FP32 model it is made of.
_COPIES = 4
# The prepared graph, two copies to calibrate with, and the quantized one.
_QUANTIZING = 4
_MARGIN = 32 << 20  # golden samples, logs, labels


def needed(spec: Spec, store: Store) -> int:
    """Bytes that building a release of ``spec`` may take on the volume; an estimate on the high side."""
    weights = spec.source.weights
    files = [p for p in (spec.source.path, weights.path if weights else None) if p is not None]
    last = _last(spec, store)
    copies = _COPIES + (_QUANTIZING if spec.quantization else 0)
    size = max(sum(map(_bytes, files)), last or 0) if files or last else _UNKNOWN
    return copies * size + _MARGIN


def check(spec: Spec, store: Store) -> None:
    """Raise ReleaseError where the volume has less free space than ``needed``."""
    wanted, free = needed(spec, store), shutil.disk_usage(store.root).free
    if free < wanted:
        raise ReleaseError(
            f"{spec.name}: {free >> 20} MiB are free on the models volume {store.root}",
            expected=f"{wanted >> 20} MiB for a release of this model while it is built",
            remedy="./scripts/prune --keep 2 removes old releases; or set MODELS_DIR to a larger disk",
        )


def _last(spec: Spec, store: Store) -> Optional[int]:
    """The size of the newest release's ONNX model; None before the first."""
    for version in reversed(store.versions(spec.name)):
        return _bytes(store.folder(spec.name, version) / layout.ONNX)
    return None


def _bytes(path: Path) -> int:
    """The bytes of a file, or of a folder's files; none where there is nothing."""
    files: Iterable[Path] = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
