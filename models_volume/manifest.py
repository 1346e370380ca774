"""``manifest.json``: what a release is, and all that a client needs to make requests.

Schema 1 lacks ``files``; everything else is the same, and both are read here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from models_volume.errors import VolumeError
from models_volume.layout import MANIFEST, Volume
from models_volume.preprocessing import Preprocessing

SCHEMA = 2


@dataclass(frozen=True)
class Tensor:
    """A tensor of the contract.

    Attributes:
        dtype: by Triton's name ("FP32").
        dims: without the batch.
        preprocessing: of an input, what the client has to do to pixels; None where nothing is left to it.
        ranges: of an input with free dimensions, which are -1 in ``dims``: beside each its range (min, opt,
            max), None beside a fixed one; empty for an input that has none.
        labels: of an output, the file in the release's ``model`` folder that names its classes.
    """

    name: str
    dtype: str
    dims: Tuple[int, ...]
    preprocessing: Optional[Preprocessing] = None
    labels: Optional[str] = None
    ranges: Tuple[Optional[Dict[str, int]], ...] = ()


@dataclass(frozen=True)
class Weights:
    """Where the weights come from; those that are ``untrained`` make labels and scores mean nothing."""

    kind: str
    untrained: bool
    description: str


@dataclass(frozen=True)
class Manifest:
    """A release's manifest.

    Attributes:
        data: all of it, as written.
        min_batch, max_batch: the batch sizes that the model takes.
        max_abs, top1: the spec's tolerances for answers.
        engine: name, version, gpu, file, bytes, sha256, argv.
        parity: the figures that were measured when it was built.
        evaluation: its accuracy on labelled data; empty where it was not evaluated.
        served: by output, how far served answers may be from the release's.
        spec: the spec it was built from, as plain data.
    """

    data: Dict[str, Any]
    model: str
    version: int
    inputs: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]
    min_batch: int
    max_batch: int
    max_abs: float
    top1: float
    weights: Weights
    engine: Dict[str, Any]
    parity: Dict[str, Any]
    evaluation: Dict[str, Any]
    served: Dict[str, Dict[str, float]]
    spec: Dict[str, Any]

    @classmethod
    def of(cls, data: Dict[str, Any]) -> Manifest:
        """From the file's JSON; raises KeyError, TypeError or ValueError for what is no manifest."""
        contract, weights = data["contract"], data["weights"]
        return cls(
            data=data,
            model=str(data["model"]),
            version=int(data["version"]),
            inputs=tuple(_tensor(e) for e in contract["inputs"]),
            outputs=tuple(_tensor(e) for e in contract["outputs"]),
            min_batch=int(contract["min_batch_size"]),
            max_batch=int(contract["max_batch_size"]),
            max_abs=float(contract["tolerance"]["max_abs"]),
            top1=float(contract["tolerance"]["top1"]),
            weights=Weights(
                str(weights.get("kind", "unknown")), bool(weights["untrained"]), str(weights["description"])
            ),
            engine=dict(data["engine"]),
            parity=dict(data.get("parity") or {}),
            evaluation=dict(data.get("evaluation") or {}),
            served={str(k): dict(v) for k, v in ((data.get("parity") or {}).get("served") or {}).items()},
            spec=dict(data["spec"]),
        )


def read(volume: Volume, model: str, version: int) -> Manifest:
    """A release's manifest; raises VolumeError when it cannot be read."""
    path = volume.release(model, version) / MANIFEST
    data = load(path)
    try:
        return Manifest.of(data)
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise VolumeError(f"{path}: cannot be read as a manifest: {type(e).__name__} {e}") from e


def load(path: Path) -> Dict[str, Any]:
    """A manifest as plain data, whatever is in it; raises VolumeError when it is no JSON object."""
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise VolumeError(f"{path}: cannot be read as a manifest: {type(e).__name__} {e}") from e
    if not isinstance(data, dict):
        raise VolumeError(f"{path}: cannot be read as a manifest: it is no JSON object")
    return data


def files(data: Dict[str, Any]) -> Dict[str, str]:
    """The sha256 of every file of a release by its path in the release's folder.

    Schema 1 knows the engine's alone. Raises KeyError or TypeError for what is no manifest.
    """
    if "files" in data:
        return {str(name): str(value) for name, value in data["files"].items()}
    engine, version = data["engine"], data["version"]
    return {f"model/{version}/{engine['file']}": str(engine["sha256"])}


def _tensor(entry: Dict[str, Any]) -> Tensor:
    dims: List[int] = [int(d) for d in entry["dims"]]
    numbers = entry.get("preprocessing")
    return Tensor(
        name=str(entry["name"]),
        dtype=str(entry["dtype"]),
        dims=tuple(dims),
        preprocessing=Preprocessing.of(numbers) if numbers else None,
        labels=entry.get("labels") or None,
        ranges=tuple(entry.get("ranges") or ()),
    )
