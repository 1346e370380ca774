"""Wrong requests and wrong answers, to learn which of them the proof of a release would notice.

Each is a mistake that was seen in a served model or is easily made: rows handed back in another order, an
output that nobody filled, pictures upside down, preprocessing done twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List

import numpy as np

from builder.engine import Arrays
from builder.spec.model import Input, Spec
from models_volume.preprocessing import Preprocessing


@dataclass(frozen=True)
class Mutant:
    """One mistake.

    Attributes:
        name: in words.
        arrays: the inputs or the outputs as they become by it, [n, *dims] by name.
        needed: whether samples that let it pass prove too little: it hands one caller another's answer, or
            gives one output for another.
    """

    name: str
    arrays: Arrays
    needed: bool = False


def of_answers(spec: Spec, answers: Arrays) -> List[Mutant]:
    """Mistakes made with the engine's answers [n, *dims]."""
    found = []
    count = len(next(iter(answers.values())))
    if count > 1:
        rotated = {name: np.roll(a, 1, axis=0) for name, a in answers.items()}
        found.append(Mutant("rows of the batch rotated", rotated, needed=True))
        padded = {name: _padded(a) for name, a in answers.items()}
        found.append(Mutant("half of the batch padded with its first row", padded))
    for i, output in enumerate(spec.outputs):
        array = answers[output.name]
        found.append(
            Mutant(f"{output.name} zeroed", {**answers, output.name: np.zeros_like(array)}, needed=True)
        )
        for other in spec.outputs[i + 1 :]:
            if (array.shape, array.dtype) == (answers[other.name].shape, answers[other.name].dtype):
                swapped = {**answers, output.name: answers[other.name], other.name: array}
                found.append(Mutant(f"{output.name} and {other.name} swapped", swapped, needed=True))
        if array.ndim == 2 and array.shape[1] > 1:
            found.append(
                Mutant(f"classes of {output.name} reversed", {**answers, output.name: array[:, ::-1]})
            )
        if array.dtype == np.float32:
            with np.errstate(over="ignore"):
                rounded = array.astype(np.float16).astype(np.float32)
            if not np.array_equal(rounded, array):  # FP16 holds whole numbers up to 2048 as they are
                found.append(Mutant(f"{output.name} rounded to FP16", {**answers, output.name: rounded}))
    return found


def of_inputs(spec: Spec, inputs: Arrays) -> List[Mutant]:
    """Mistakes made with the inputs [n, *dims] before they reach the engine."""
    found = []
    several = len(spec.inputs) > 1
    for i, tensor in enumerate(spec.inputs):
        array = inputs[tensor.name]
        for what, changed in _changes(tensor, array).items():
            name = f"{tensor.name}: {what}" if several else what
            found.append(Mutant(name, {**inputs, tensor.name: np.ascontiguousarray(changed)}))
        if several and len(array) > 1:
            rotated = {**inputs, tensor.name: np.roll(array, 1, axis=0)}
            found.append(Mutant(f"{tensor.name} of another row", rotated))
        for other in spec.inputs[i + 1 :]:
            if (array.shape, array.dtype) == (inputs[other.name].shape, inputs[other.name].dtype):
                swapped = {**inputs, tensor.name: inputs[other.name], other.name: array}
                found.append(Mutant(f"{tensor.name} and {other.name} swapped", swapped))
    # One that changes nothing (a symmetric picture, a single feature) says nothing.
    return [m for m in found if any(not np.array_equal(m.arrays[n], inputs[n]) for n in inputs)]


def _changes(tensor: Input, array: np.ndarray) -> Dict[str, np.ndarray]:
    found = {"input zeroed": np.zeros_like(array)}
    if array.ndim == 4 and array.shape[-1] in (1, 3):
        found["pictures upside down"] = array[:, ::-1]
        found["pictures mirrored"] = array[:, :, ::-1]
        if array.shape[-1] == 3:
            found["channels swapped"] = array[..., ::-1]
    elif array.ndim > 1 and array.shape[-1] > 1:
        found["input reversed"] = array[..., ::-1]
    if tensor.preprocessing is not None:
        again = _cast(tensor.preprocessing.apply(array.astype(np.float32)), array.dtype)
        found["preprocessing done twice"] = again
        if tensor.preprocess_where == "client":
            raw = _undone(tensor.preprocessing, array.astype(np.float32))
            found["preprocessing left out"] = _cast(raw, array.dtype)
    return found


def _undone(preprocessing: Preprocessing, array: np.ndarray) -> np.ndarray:
    """The pixels 0..255 that ``array`` was made of."""
    channels = array.shape[-1]
    mean, std = (np.array(v[:channels], np.float32) for v in (preprocessing.mean, preprocessing.std))
    pixels = np.rint((array * std + mean) / np.float32(preprocessing.scale))
    ordered: np.ndarray = pixels[..., ::-1] if preprocessing.channel_order == "BGR" else pixels
    return ordered


def _cast(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    return np.asarray(values, dtype=dtype)


def _padded(array: np.ndarray) -> np.ndarray:
    padded: np.ndarray = array.copy()
    padded[(len(array) + 1) // 2 :] = array[0]
    return padded
