"""Calibration data, and samples held out from it that INT8 is judged on.

Which samples are calibrated on depends on the seed and on their names alone, never on the order in which a
file system lists them. Samples of equal content count once, so that none is on both sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from builder import hashing
from builder.errors import QuantizationError
from builder.evaluation import data as evaluation
from builder.quantize.answers import Arrays
from builder.spec.model import Quantization, Spec
from models_volume.errors import PictureError
from models_volume.golden import UNREADABLE

_BATCH = 64  # samples that are hashed together


@dataclass(frozen=True)
class Samples:
    """Samples in a fixed order.

    Attributes:
        names: a file's path within its folder, or a row.
        get: the samples from a place to another as arrays [n, *dims] by input name, in the inputs' dtypes.
        labels: int64 [n] class numbers; None where nobody knows them.
    """

    names: tuple[str, ...]
    get: Callable[[int, int], Arrays]
    labels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)

    def batches(self, size: int) -> Iterator[Arrays]:
        """All of them, ``size`` at a time: what is judged on may be more than memory holds."""
        for start in range(0, len(self), size):
            yield self.get(start, min(start + size, len(self)))

    def all(self) -> Arrays:
        """All of them at once."""
        return self.get(0, len(self))

    def hashes(self) -> list[str]:
        """Of each sample's content."""
        return [value for batch in self.batches(_BATCH) for value in _hashes(batch)]


def _in_memory(inputs: Arrays, names: Sequence[str]) -> Samples:
    def get(start: int, stop: int) -> Arrays:
        return {name: array[start:stop] for name, array in inputs.items()}

    return Samples(tuple(names), get)


def _take(inputs: Arrays, names: Sequence[str], rows: Sequence[int]) -> Samples:
    return _in_memory(
        {name: array[list(rows)] for name, array in inputs.items()}, [names[row] for row in rows]
    )


def _hashes(inputs: Arrays) -> Iterator[str]:
    for row in range(len(next(iter(inputs.values())))):
        yield hashlib.sha256(b"".join(array[row].tobytes() for array in inputs.values())).hexdigest()


def sha256(spec: Spec) -> str:
    """Of the calibration data where it lies: of a folder, of the pictures that are used.

    Raises QuantizationError: a file cannot be read, or is no picture by its name.
    """
    asked = spec.quantization
    assert asked is not None
    if asked.kind == "file":
        return hashing.of_path(asked.path)
    total = hashlib.sha256()
    for name, path in _chosen(asked, _wanted(spec)):
        total.update(f"{name}\0{hashlib.sha256(_content(path)).hexdigest()}\n".encode())
    return total.hexdigest()


def load(spec: Spec) -> tuple[Samples, Samples]:
    """What is calibrated on, and what is held out: the spec's evaluation data, or the rest.

    Raises:
        QuantizationError: a file cannot be read or does not fit the model; there are too few samples; a
            sample of the evaluation is calibrated on.
        EvaluationError: see ``evaluation.data.load``.
    """
    asked = spec.quantization
    assert asked is not None
    read = _pictures if asked.kind == "folder" else _arrays
    inputs, names = read(spec, asked, _wanted(spec))
    rows = _different(list(_hashes(inputs)))
    calibration = _take(inputs, names, rows[: asked.samples])
    held_out = _evaluation(spec) if spec.evaluation else _take(inputs, names, rows[asked.samples :])
    _enough(asked, len(rows), len(calibration), len(held_out), own=spec.evaluation is None)
    _apart(calibration, held_out)
    return calibration, held_out


def _wanted(spec: Spec) -> int:
    """The most samples of the calibration data that have a use."""
    assert spec.quantization is not None
    held_out = spec.quantization.bounds.samples if spec.evaluation is None else 0
    return spec.quantization.samples + held_out


def _enough(asked: Quantization, found: int, used: int, held_out: int, *, own: bool) -> None:
    least = asked.bounds.min_samples
    needed = asked.samples + (least if own else 0)
    if used == asked.samples and held_out >= least:
        return
    if own or used < asked.samples:
        parts = f"{asked.samples} to calibrate on" + (
            f" and {least} held out to judge INT8 on" if own else ""
        )
        raise QuantizationError(
            f"{asked.path}: has {found} different samples",
            expected=f"at least {needed}: {parts}",
            remedy="add data, or ask for fewer (calibration: samples, int8: min_samples)",
        )
    raise QuantizationError(
        f"the evaluation has {held_out} samples",
        expected=f"at least {least} to judge INT8 on",
        remedy="add data, or ask for fewer (int8: min_samples)",
    )


def _apart(calibration: Samples, held_out: Samples) -> None:
    known = dict(zip(calibration.hashes(), calibration.names))
    both = [(n, known[h]) for n, h in zip(held_out.names, held_out.hashes()) if h in known]
    if both:
        name, same = both[0]
        raise QuantizationError(
            f"{len(both)} samples of the evaluation are calibrated on: {name} is calibration's {same}",
            expected="other samples: on those that it was fitted to, INT8 looks better than it is",
            remedy="take them out of one of the two",
        )


def _different(hashes: list[str]) -> list[int]:
    """The first row of each content."""
    first: dict[str, int] = {}
    for row, value in enumerate(hashes):
        first.setdefault(value, row)
    return sorted(first.values())


def _shuffled(names: Sequence[str], seed: int) -> list[int]:
    """Places in an order that depends on seed and names alone."""
    return sorted(range(len(names)), key=lambda i: hashlib.sha256(f"{seed}/{names[i]}".encode()).digest())


def _chosen(asked: Quantization, most: int) -> list[tuple[str, Path]]:
    """The pictures that are used, by their path within the folder, in the order of use."""
    files = sorted(p for p in asked.path.rglob("*") if p.is_file() and not _hidden(p, asked.path))
    wrong = next((p for p in files if p.suffix.lower() not in evaluation.SUFFIXES), None)
    if wrong is not None:
        raise QuantizationError(
            f"{wrong}: is no picture by its name",
            expected=f"files that end in {', '.join(evaluation.SUFFIXES)} alone in {asked.path}",
        )
    if not files:
        raise QuantizationError(f"{asked.path}: holds no pictures")
    names = [p.relative_to(asked.path).as_posix() for p in files]
    return [(names[place], files[place]) for place in _shuffled(names, asked.seed)[:most]]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise QuantizationError(f"{path}: cannot be read: {e.strerror or e}") from e


def _pictures(spec: Spec, asked: Quantization, most: int) -> tuple[Arrays, list[str]]:
    (tensor,) = spec.inputs
    chosen = _chosen(asked, most)
    rows = []
    for _, path in chosen:
        try:
            rows.append(evaluation.pixels(tensor, _content(path)))
        except PictureError as e:
            raise QuantizationError(
                f"{path}: {e}", expected="a picture", remedy="replace it, or remove it"
            ) from e
    return {tensor.name: np.stack(rows)}, [name for name, _ in chosen]


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _arrays(spec: Spec, asked: Quantization, most: int) -> tuple[Arrays, list[str]]:
    try:
        loaded = np.load(str(asked.path), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            given = {spec.inputs[0].name: loaded}
        else:
            with loaded as npz:
                given = {name: np.asarray(npz[name]) for name in npz.files}
    except UNREADABLE as e:
        raise QuantizationError(f"{asked.path}: cannot be read: {e}", expected="what NumPy saved") from e
    arrays = {}
    for tensor in spec.inputs:
        wanted = f"{tensor.dtype.numpy} [N, {', '.join(map(str, tensor.dims))}]"
        array = given.get(tensor.name)
        if array is None:
            has = ", ".join(sorted(given)) or "nothing"
            raise QuantizationError(
                f"{asked.path}: has no array {tensor.name}; it holds {has}", expected=wanted
            )
        if array.dtype != tensor.dtype.numpy or array.ndim == 0 or not tensor.takes(array.shape[1:]):
            raise QuantizationError(
                f"{asked.path}: {tensor.name} is {array.dtype} {list(array.shape)}", expected=wanted
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise QuantizationError(f"{asked.path}: {tensor.name} holds values that are not finite")
        arrays[tensor.name] = array
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise QuantizationError(f"{asked.path}: holds {counts} samples", expected="as many for each input")
    names = [f"row {row}" for row in range(min(counts.values()))]
    places = _shuffled(names, asked.seed)[:most]
    return {name: array[places] for name, array in arrays.items()}, [names[place] for place in places]


def _evaluation(spec: Spec) -> Samples:
    found = evaluation.load(spec)

    def get(start: int, stop: int) -> Arrays:
        return {spec.inputs[0].name: found.get(start, stop)}

    return Samples(tuple(s.name for s in found.samples), get, found.labels)
