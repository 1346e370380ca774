"""Golden samples: seeded inputs and the source model's own outputs on them.

One file (models_volume.golden says how it is written) serves the parity gate and the smoke test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, List, Optional, Tuple, Union

import numpy as np

from builder.errors import SourceError
from builder.spec.model import Input, Output, Spec
from models_volume import golden as files
from models_volume.errors import VolumeError
from models_volume.golden import UNREADABLE, Arrays, at, save

__all__ = ["Arrays", "at", "batch_of", "has", "load", "make_inputs", "pick", "save", "write"]

# Pictures made for each one that is kept: a model that takes most of them for one class is then tested with
# the ones that it takes for others. For ResNet50, 32 more answers take TensorFlow 2 s on two CPU cores.
_CHOICE = 3


def candidates(spec: Spec, point: str = "opt") -> Arrays:
    """Inputs to ``pick`` the samples from: of pictures that we make ourselves, several for each sample."""
    made = any(i.samples.kind == "image" for i in spec.inputs)
    return make_inputs(spec, spec.parity.samples * (_CHOICE if made else 1), point)


def pick(spec: Spec, inputs: Arrays, outputs: Arrays) -> Tuple[Arrays, Arrays]:
    """The samples among the candidates whose answers are farthest from each other.

    Each next one is the candidate whose nearest answer so far is the farthest away, by the largest
    difference of any element in units of its output's own spread: other classes come before other scores of
    one class. The same candidates and answers give the same samples.
    """
    count = len(next(iter(inputs.values())))
    if count <= spec.parity.samples:
        return inputs, outputs
    parts = []
    for array in outputs.values():
        flat = array.reshape(count, -1).astype(np.float64)
        parts.append(flat / max(float(np.ptp(flat, axis=0).max()), 1e-30))
    answers = np.concatenate(parts, axis=1)
    chosen = [0]
    nearest = np.full(count, np.inf)
    while len(chosen) < spec.parity.samples:
        nearest = np.minimum(nearest, np.abs(answers - answers[chosen[-1]]).max(axis=1))
        nearest[chosen] = -1.0  # where all answers are equal too
        chosen.append(int(nearest.argmax()))
    chosen.sort()
    return {n: a[chosen] for n, a in inputs.items()}, {n: a[chosen] for n, a in outputs.items()}


def make_inputs(spec: Spec, count: Optional[int] = None, point: str = "opt") -> Arrays:
    """Seeded inputs by name, each [samples, *shape], as a client would send them.

    Args:
        count: other than the spec's number of samples; the first ones are the same.
        point: "min", "opt" or "max", for free dimensions: all are at the same one, so that tensors which
            belong together (ids and their mask) stay of one size.

    Raises:
        SourceError: a samples file does not fit its tensor.
    """
    count = spec.parity.samples if count is None else count
    # A generator for each input: another count leaves the other inputs' first samples as they are.
    streams = np.random.SeedSequence(spec.parity.seed).spawn(len(spec.inputs))
    arrays = {
        i.name: _make(i, i.shape(point), count, np.random.default_rng(s))
        for i, s in zip(spec.inputs, streams)
    }
    count = min(len(a) for a in arrays.values())  # a samples file may hold fewer than the spec asks for
    return {name: a[:count] for name, a in arrays.items()}


def _make(tensor: Input, shape: Tuple[int, ...], count: int, rng: np.random.Generator) -> np.ndarray:
    samples = tensor.samples
    if samples.kind == "file":
        return _fit(_from_file(tensor, count), shape)
    if samples.kind == "uniform":
        values = rng.uniform(samples.low, samples.high, (count, *shape))
        return np.asarray(values, dtype=tensor.dtype.numpy)
    pixels = np.stack([_picture(shape, rng) for _ in range(count)])
    if tensor.preprocess_where == "client" and tensor.preprocessing is not None:
        return np.asarray(tensor.preprocessing.apply(pixels.astype(np.float32))).astype(tensor.dtype.numpy)
    return np.asarray(pixels, dtype=tensor.dtype.numpy)


def _picture(dims: Tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Something with a photograph's statistics: smooth colour, edges, sensor noise; [H, W, C] 0..255.

    White noise or zeros would leave most filters of a convolutional network silent, and an engine that
    is wrong there would pass the gate.
    """
    height, width, channels = dims
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    image = np.zeros(dims)
    for octave in range(1, 7):
        for channel in range(channels):
            fx, fy = rng.normal(0, octave, 2)
            wave = np.sin(2 * np.pi * (fx * x + fy * y) + rng.uniform(0, 2 * np.pi))
            image[..., channel] += rng.normal() / octave * wave
    for _ in range(rng.integers(2, 6)):
        top, left = rng.integers(0, height), rng.integers(0, width)
        bottom, right = rng.integers(top, height) + 1, rng.integers(left, width) + 1
        image[top:bottom, left:right] += rng.normal(0, 1, channels)
    image += rng.normal(0, 0.03, dims)
    low, high = image.min(), image.max()
    brightest = rng.uniform(128, 255)
    scaled: np.ndarray = np.rint((image - low) / max(high - low, 1e-9) * brightest)
    return scaled.astype(np.uint8)


def _from_file(tensor: Input, count: int) -> np.ndarray:
    path = tensor.samples.path
    try:
        values = np.load(str(path), allow_pickle=False)
    except UNREADABLE as e:
        raise SourceError(f"samples of {tensor.name}: {path}: cannot be read: {e}") from e
    if not isinstance(values, np.ndarray):
        raise SourceError(
            f"samples of {tensor.name}: {path} holds several arrays", expected="one, as numpy.save writes it"
        )
    if values.dtype != tensor.dtype.numpy or not _fits(tensor, values):
        raise SourceError(
            f"samples of {tensor.name}: {path} holds {values.dtype} {list(values.shape)}",
            expected=f"{tensor.dtype.numpy} [N, {', '.join(map(str, tensor.dims))}] with N of at least 1",
        )
    return np.asarray(values[:count])


def _fit(values: np.ndarray, shape: Tuple[int, ...]) -> np.ndarray:
    """Samples cut, or repeated, to this shape: a file has one size, a free dimension is verified at three."""
    for axis, size in enumerate(shape, 1):
        values = np.take(values, np.arange(size) % values.shape[axis], axis=axis)
    return values


def _fits(tensor: Union[Input, Output], array: np.ndarray) -> bool:
    return array.ndim > 0 and len(array) > 0 and tensor.takes(array.shape[1:])


def load(path: Path, spec: Spec, point: str = "opt") -> Tuple[Arrays, Arrays]:
    """The golden inputs and outputs by tensor name, checked against the spec.

    Args:
        point: of free dimensions. A golden file of the user's own may have "opt" alone (``has``).

    Raises:
        SourceError: the file cannot be read, lacks a tensor, or holds one of another type or shape,
            or an output that is not finite.
    """
    try:
        given, wanted = files.load(path)
    except VolumeError as e:
        raise SourceError(str(e)) from e
    arrays = {f"input.{k}": v for k, v in given.items()}
    arrays.update({f"output.{k}": v for k, v in wanted.items()})
    remedy = "write it anew with `python -m builder export`"
    tensors: List[Tuple[str, Union[Input, Output]]] = [("input", i) for i in spec.inputs]
    tensors += [("output", o) for o in spec.outputs]
    counts = {a.shape[:1] for a in arrays.values()}
    for side, tensor in tensors:
        want = f"{tensor.dtype.numpy} [N, {', '.join(map(str, tensor.dims))}]"
        name = f"{side}.{at(tensor.name, point)}"
        array = arrays.get(name)
        if array is None:
            raise SourceError(
                f"{path}: has no {name}",
                expected=f"{name} as {want}; found {', '.join(sorted(arrays)) or 'nothing'}",
                remedy=remedy,
            )
        fits = array.dtype == tensor.dtype.numpy and _fits(tensor, array)
        if not fits or len(counts) != 1:
            raise SourceError(
                f"{path}: {name} is {array.dtype} {list(array.shape)}",
                expected=f"{want} with one N for all",
                remedy=remedy,
            )
        if not np.isfinite(array.astype(np.float64)).all():
            raise SourceError(f"{path}: {name} holds values that are not finite", remedy=remedy)
    return (
        {i.name: arrays[f"input.{at(i.name, point)}"] for i in spec.inputs},
        {o.name: arrays[f"output.{at(o.name, point)}"] for o in spec.outputs},
    )


def write(path: Path, spec: Spec, answer: Callable[[Arrays], Arrays]) -> None:
    """Pick the golden samples by ``answer`` (inputs to outputs, any number of samples), and check them.

    Raises:
        SourceError: see ``make_inputs`` and ``load``.
    """
    inputs: Arrays = {}
    outputs: Arrays = {}
    for point in spec.points:
        made = candidates(spec, point)
        picked = pick(spec, made, answer(made))
        for arrays, side in zip((inputs, outputs), picked):
            arrays.update({at(name, point): array for name, array in side.items()})
    save(path, inputs, outputs)
    for point in spec.points:
        load(path, spec, point)


def has(path: Path, spec: Spec, point: str) -> bool:
    """Whether the file holds samples at this point; raises SourceError when it cannot be read."""
    try:
        inputs, _ = files.load(path)
    except VolumeError as e:
        raise SourceError(str(e)) from e
    return all(at(i.name, point) in inputs for i in spec.inputs)


def batch_of(arrays: Arrays, size: int, start: int = 0) -> Arrays:
    """``size`` samples beginning at ``start``, going round as often as needed."""
    count = len(next(iter(arrays.values())))
    rows = (np.arange(size) + start) % count
    return {name: np.ascontiguousarray(a[rows]) for name, a in arrays.items()}
