"""The live releases on the models volume, as a client sees them: contract and golden samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models_volume import golden, manifest
from models_volume.comparator import Allowance
from models_volume.errors import VolumeError
from models_volume.layout import GOLDEN, VERIFIED, Volume
from models_volume.preprocessing import Preprocessing
from triton_stack_client.contract import Tensor, ranges_of
from triton_stack_client.errors import ReleaseError
from triton_stack_client.transport.protocol import Arrays


@dataclass(frozen=True)
class Release:
    """A live release: what Triton should be serving.

    Attributes:
        inputs, outputs: the tensors of the contract.
        min_batch, max_batch: the batch sizes it takes.
        allowed: by output, how far answers may be from the release's.
        weights: where the weights come from, in words.
        preprocessing: by input, what the client has to do to pixels; inputs that want none are not in it.
        labels: by output, the file that names its classes.
        engine, spec: as the manifest has them; ``manifest`` is all of it.
    """

    model: str
    version: int
    folder: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    min_batch: int
    max_batch: int
    allowed: dict[str, Allowance]
    weights: str
    untrained: bool
    preprocessing: dict[str, Preprocessing]
    labels: dict[str, Path]
    engine: dict[str, Any]
    spec: dict[str, Any]
    manifest: manifest.Manifest

    def golden(self, point: str = "opt") -> tuple[Arrays, Arrays]:
        """Golden inputs and outputs by tensor name, each [samples, *dims].

        Args:
            point: of free dimensions: "opt", or one of ``points``.

        Raises:
            ReleaseError: they cannot be read.
        """
        arrays = self._arrays()
        for side, tensors, there in zip(
            ("input", "output"), (self.inputs, self.outputs), arrays, strict=True
        ):
            for name in (golden.at(t.name, point) for t in tensors):
                if name not in there:
                    path = self.folder / GOLDEN
                    raise ReleaseError(f"{path}: cannot be read as golden samples: no {side}.{name}")
        inputs, outputs = arrays
        return (
            {t.name: inputs[golden.at(t.name, point)] for t in self.inputs},
            {t.name: outputs[golden.at(t.name, point)] for t in self.outputs},
        )

    def points(self) -> list[str]:
        """The ends of free dimensions that there are golden samples of; raises ReleaseError."""
        if all(-1 not in t.dims for t in self.inputs):
            return []
        inputs, _ = self._arrays()
        return [p for p in ("min", "max") if all(golden.at(t.name, p) in inputs for t in self.inputs)]

    def _arrays(self) -> tuple[Arrays, Arrays]:
        try:
            return golden.load(self.folder / GOLDEN)
        except VolumeError as e:
            raise ReleaseError(str(e)) from e

    def verified(self, point: str = "opt") -> Arrays:
        """The engine's own answers to the golden inputs by output name; empty in an older release.

        Raises:
            ReleaseError: the file cannot be read.
        """
        path = self.folder / VERIFIED
        if not path.exists():
            return {}
        try:
            answers = golden.load(path)[1]
        except VolumeError as e:
            raise ReleaseError(str(e)) from e
        names = {t.name: golden.at(t.name, point) for t in self.outputs}
        return {name: answers[key] for name, key in names.items() if key in answers}


def live(models_dir: Path, only: list[str] | None = None) -> list[Release]:
    """The live releases, of ``only`` those models when given.

    Raises:
        ReleaseError: there is none, one of ``only`` is not among them, or a manifest cannot be read.
    """
    volume = Volume(models_dir)
    try:
        found = volume.links()
    except OSError as e:
        raise ReleaseError(f"{volume.repository}: cannot be read: {e.strerror}") from e
    if not found:
        raise ReleaseError(
            f"{volume.repository}: no model is live", remedy="run the builder, or ./scripts/up"
        )
    for name in only or []:
        if name not in found:
            raise ReleaseError(f'no model "{name}" is live; live are: {", ".join(found)}')
    releases = []
    for name in only or found:
        version = found[name]
        if version is None:
            raise ReleaseError(
                f"{volume.link(name)}: cannot be read as a link to a release", remedy="move it away"
            )
        releases.append(read(models_dir, name, version))
    return releases


def read(models_dir: Path, model: str, version: int) -> Release:
    """One release, live or not; raises ReleaseError."""
    volume = Volume(models_dir)
    folder = volume.release(model, version)
    try:
        found = manifest.read(volume, model, version)
        allowed = {
            t.name: Allowance.of(found.served.get(t.name, {}), ceiling=found.max_abs) for t in found.outputs
        }
    except VolumeError as e:
        raise ReleaseError(str(e)) from e
    except (KeyError, TypeError, ValueError) as e:
        raise ReleaseError(f"{folder}: its manifest's parity.served cannot be read: {e!r}") from e
    return Release(
        model=found.model,
        version=found.version,
        folder=folder,
        inputs=tuple(Tensor(t.name, t.dtype, t.dims, ranges_of(list(t.ranges))) for t in found.inputs),
        outputs=tuple(Tensor(t.name, t.dtype, t.dims) for t in found.outputs),
        min_batch=found.min_batch,
        max_batch=found.max_batch,
        allowed=allowed,
        weights=found.weights.description,
        untrained=found.weights.untrained,
        preprocessing={t.name: t.preprocessing for t in found.inputs if t.preprocessing},
        labels={t.name: folder / "model" / t.labels for t in found.outputs if t.labels},
        engine=found.engine,
        spec=found.spec,
        manifest=found,
    )
