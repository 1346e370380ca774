"""``golden.npz``: seeded inputs and the source model's own outputs on them.

It holds ``input.<name>`` and ``output.<name>``, each [samples, *dims] in the contract's dtype, as
``numpy.savez`` writes them, without pickles. Beside it in a release, ``verified.npz`` holds as
``output.<name>`` what the engine itself answered when it was verified; older releases lack that file.

A model with free dimensions has its samples at the usual size of each, and again at both ends of the ranges:
``input.<name>@min`` and ``input.<name>@max``, and the outputs likewise.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from models_volume.errors import VolumeError

Arrays = Dict[str, np.ndarray]
# What np.load raises for a file that is empty, cut short, of another kind, or a lone array as an .npz.
UNREADABLE = (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


def at(name: str, point: str) -> str:
    """What a tensor's samples are called at a point of its free dimensions: ``ids`` ("opt"), ``ids@min``."""
    return name if point == "opt" else f"{name}@{point}"


def save(path: Path, inputs: Arrays, outputs: Arrays) -> None:
    """Write the samples; without inputs, an engine's own answers."""
    arrays: Dict[str, Any] = {f"input.{k}": v for k, v in inputs.items()}
    arrays.update({f"output.{k}": v for k, v in outputs.items()})
    with path.open("wb") as f:
        np.savez(f, **arrays)


def load(path: Path) -> Tuple[Arrays, Arrays]:
    """Inputs and outputs by tensor name; raises VolumeError when the file cannot be read.

    Entries of other names are left out. Nothing is checked against a contract.
    """
    try:
        with np.load(str(path), allow_pickle=False) as npz:
            arrays = {k: np.asarray(npz[k]) for k in npz.files}
    except UNREADABLE as e:
        raise VolumeError(f"{path}: cannot be read as golden samples: {e}") from e
    return _side(arrays, "input."), _side(arrays, "output.")


def _side(arrays: Arrays, prefix: str) -> Arrays:
    return {name[len(prefix) :]: array for name, array in arrays.items() if name.startswith(prefix)}
