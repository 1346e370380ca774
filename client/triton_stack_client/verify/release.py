"""The live releases on the models volume, as a client sees them: contract and golden samples."""

from __future__ import annotations

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from triton_stack_client.contract import Tensor
from triton_stack_client.errors import ReleaseError
from triton_stack_client.preprocess import Preprocessing
from triton_stack_client.transport.protocol import Arrays


@dataclass(frozen=True)
class Release:
    """A live release: what Triton should be serving.

    Attributes:
        inputs, outputs: the tensors of the contract.
        min_batch, max_batch: the batch sizes it takes.
        max_abs, top1: how far answers may be from the golden ones.
        weights: where the weights come from, in words.
        preprocessing: by input, what the client has to do to pixels; inputs that want none are not in it.
        labels: by output, the file that names its classes.
        engine, spec: as the manifest has them.
    """

    model: str
    version: int
    folder: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    min_batch: int
    max_batch: int
    max_abs: float
    top1: float
    weights: str
    untrained: bool
    preprocessing: dict[str, Preprocessing]
    labels: dict[str, Path]
    engine: dict[str, Any]
    spec: dict[str, Any]

    def golden(self) -> tuple[Arrays, Arrays]:
        """Golden inputs and outputs by tensor name, each [samples, *dims]; raises ReleaseError."""
        path = self.folder / "golden.npz"
        try:
            with np.load(path, allow_pickle=False) as npz:
                inputs = {t.name: npz[f"input.{t.name}"] for t in self.inputs}
                outputs = {t.name: npz[f"output.{t.name}"] for t in self.outputs}
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as e:
            raise ReleaseError(f"{path}: cannot be read as golden samples: {e}") from e
        return inputs, outputs


def live(models_dir: Path, only: list[str] | None = None) -> list[Release]:
    """The live releases, of ``only`` those models when given.

    Raises:
        ReleaseError: there is none, one of ``only`` is not among them, or a manifest cannot be read.
    """
    repository = models_dir / "repository"
    links = sorted(p for p in repository.iterdir() if p.is_symlink()) if repository.is_dir() else []
    found = {link.name: link for link in links}
    if not found:
        raise ReleaseError(f"{repository}: no model is live", remedy="run the builder, or ./scripts/up")
    for name in only or []:
        if name not in found:
            raise ReleaseError(f'no model "{name}" is live; live are: {", ".join(found)}')
    # ../releases/<model>/<N>/model, read as text: the volume may be mounted elsewhere than it was written.
    return [
        read(models_dir, name, Path(os.readlink(found[name])).parent.name) for name in (only or list(found))
    ]


def read(models_dir: Path, model: str, version: str) -> Release:
    """One release, live or not; raises ReleaseError."""
    folder = models_dir / "releases" / model / version
    path = folder / "manifest.json"
    try:
        data = json.loads(path.read_text("utf-8"))
        contract = data["contract"]
        return Release(
            model=data["model"],
            version=int(data["version"]),
            folder=folder,
            inputs=_tensors(contract["inputs"]),
            outputs=_tensors(contract["outputs"]),
            min_batch=int(contract["min_batch_size"]),
            max_batch=int(contract["max_batch_size"]),
            max_abs=float(contract["tolerance"]["max_abs"]),
            top1=float(contract["tolerance"]["top1"]),
            weights=data["weights"]["description"],
            untrained=bool(data["weights"]["untrained"]),
            preprocessing={
                e["name"]: Preprocessing.of(e["preprocessing"])
                for e in contract["inputs"]
                if e["preprocessing"]
            },
            labels={e["name"]: folder / "model" / e["labels"] for e in contract["outputs"] if e["labels"]},
            engine=dict(data["engine"]),
            spec=dict(data["spec"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise ReleaseError(f"{path}: cannot be read as a manifest: {type(e).__name__} {e}") from e


def _tensors(entries: list[dict[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(e["name"], e["dtype"], tuple(e["dims"])) for e in entries)
