"""Labelled data: pictures in folders of their class, or arrays, as what the model's input takes.

The data's sha256 is of what is used: each sample's name, class and content. A sample whose content changes
between that and its use is refused.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from builder.errors import EvaluationError
from builder.evaluation import classes
from builder.spec.model import Evaluation, Input, Output, Spec
from models_volume.errors import PictureError
from models_volume.golden import UNREADABLE, Arrays

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Sample:
    """One sample: its file's path within the folder or its row, and its class's number."""

    name: str
    label: int


@dataclass(frozen=True)
class Data:
    """Labelled samples, at least one, in a fixed order.

    Attributes:
        sha256: of all that is used.
        get: the samples from a place to another as input arrays [n, *dims] in the input's dtype.
        picture: a sample as UINT8 pixels [H, W, 1 or 3]; None where it is no picture.
    """

    samples: Tuple[Sample, ...]
    sha256: str
    get: Callable[[int, int], np.ndarray]
    picture: Callable[[int], Optional[np.ndarray]]

    @property
    def labels(self) -> np.ndarray:
        """int64 [samples]."""
        return np.array([s.label for s in self.samples], np.int64)

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """All samples in order, ``size`` at a time; the last batch may be smaller.

        Raises EvaluationError for a sample that is not what it was when it was hashed.
        """
        for start in range(0, len(self.samples), size):
            yield self.get(start, min(start + size, len(self.samples)))


def scores_of(spec: Spec) -> Output:
    """The output that holds the scores: the one with labels, or the only one [classes]."""
    candidates = [o for o in spec.outputs if len(o.dims) == 1 and o.dims[0] > 1]
    labelled = [o for o in candidates if o.labels is not None]
    return (labelled if len(labelled) == 1 else candidates)[0]


def load(spec: Spec) -> Data:
    """The samples that the spec's ``evaluation`` names, all read once.

    Raises:
        EvaluationError: a file cannot be read or is no picture, a folder's name is no label, an array does
            not fit the model, a label is no class; or there is nothing at all.
    """
    assert spec.evaluation is not None
    if spec.evaluation.kind == "npz":
        return _arrays(spec, spec.evaluation)
    return _pictures(spec, spec.evaluation)


def pixels(tensor: Input, content: bytes) -> np.ndarray:
    """A picture file's content as one sample [*dims] of a model's input, as the client would send it.

    Raises PictureError: it is no picture; EvaluationError: nothing here reads pictures.
    """
    height, width, channels = tensor.shape("opt")
    array = _pillow().load(content, height, width, channels)
    if tensor.preprocess_where == "client" and tensor.preprocessing is not None:
        array = tensor.preprocessing.apply(array.astype(np.float32))
    return np.asarray(array).astype(tensor.dtype.numpy)


def _pillow() -> ModuleType:
    """models_volume.pictures, which needs Pillow; arrays do without."""
    try:
        from models_volume import pictures
    except ImportError as e:
        raise EvaluationError(
            f"Pillow, which reads the labelled pictures, cannot be imported: {e}",
            remedy="pip install --require-hashes -r builder/requirements.txt, or pip install pillow",
        ) from e
    return pictures


def choose(samples: Sequence[Sample], most: Optional[int]) -> List[int]:
    """The places of the samples that are used: as evenly from the classes as they are there.

    Which of a class depends on their names alone, and not on the order in which a file system lists them.
    """
    if most is None or most >= len(samples):
        return list(range(len(samples)))
    by_class: Dict[int, List[int]] = defaultdict(list)
    for place, sample in enumerate(samples):
        by_class[sample.label].append(place)
    turns = []
    for label, places in by_class.items():
        places.sort(key=lambda place: hashlib.sha256(samples[place].name.encode()).digest())
        turns += [(turn, label, place) for turn, place in enumerate(places)]
    return sorted(place for _, _, place in sorted(turns)[:most])


def _pictures(spec: Spec, asked: Evaluation) -> Data:
    root, (tensor,) = asked.path, spec.inputs
    listed = _listed(root, classes.Names.of(scores_of(spec)))
    samples = [listed[place] for place in choose(listed, asked.samples)]
    sums = []
    total = hashlib.sha256(b"folder\n")
    for sample in samples:
        content = _content(root / sample.name)
        sums.append(hashlib.sha256(content).hexdigest())
        total.update(f"{sample.name}\0{sample.label}\0{sums[-1]}\n".encode())

    def get(start: int, stop: int) -> np.ndarray:
        rows = []
        for sample, wanted in zip(samples[start:stop], sums[start:stop]):
            content = _content(root / sample.name)
            if hashlib.sha256(content).hexdigest() != wanted:
                raise EvaluationError(f"{root / sample.name}: changed during the build")
            try:
                rows.append(pixels(tensor, content))
            except PictureError as e:
                raise EvaluationError(
                    f"{root / sample.name}: {e}",
                    expected="pictures alone in the folders of classes",
                    remedy="replace or remove it: an accuracy on part of the data is another accuracy",
                ) from e
        return np.stack(rows)

    def picture(place: int) -> Optional[np.ndarray]:
        height, width, channels = tensor.shape("opt")
        shown: np.ndarray = _pillow().load(root / samples[place].name, height, width, channels)
        return shown

    return Data(tuple(samples), total.hexdigest(), get, picture)


def _listed(root: Path, names: classes.Names) -> List[Sample]:
    """Every picture with its class, by name."""
    found, strange = [], []
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        label = names.number(folder.name)
        if label is None:
            strange.append(folder.name)
            continue
        files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
        wrong = next((p for p in files if p.suffix.lower() not in SUFFIXES), None)
        if wrong is not None:
            raise EvaluationError(
                f"{wrong}: is no picture by its name", expected=f"files that end in {', '.join(SUFFIXES)}"
            )
        if not files:
            raise EvaluationError(f"{folder}: holds no picture", expected="at least one for each class named")
        found += [Sample(p.relative_to(root).as_posix(), label) for p in files]
    if strange:
        raise EvaluationError(
            f"{root}: {len(strange)} folders match no class: {', '.join(strange[:5])}",
            expected=names.words,
            remedy="rename them, or move them away",
        )
    if not found:
        raise EvaluationError(
            f"{root}: holds no folder with pictures", expected="one folder for each class, with its pictures"
        )
    return found


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise EvaluationError(f"{path}: cannot be read: {e.strerror or e}") from e


def _arrays(spec: Spec, asked: Evaluation) -> Data:
    path, (tensor,) = asked.path, spec.inputs
    content = _content(path)
    try:
        with np.load(str(path), allow_pickle=False) as npz:
            arrays = {name: np.asarray(npz[name]) for name in npz.files}
    except UNREADABLE as e:
        raise EvaluationError(f"{path}: cannot be read: {e}", expected="what numpy.savez writes") from e
    inputs, labels = (_named(path, arrays, name) for name in ("inputs", "labels"))
    count = scores_of(spec).dims[0]
    wanted = f"{tensor.dtype.numpy} [N, {', '.join(map(str, tensor.dims))}], N at least 1"
    if inputs.dtype != tensor.dtype.numpy or not len(inputs) or not tensor.takes(inputs.shape[1:]):
        raise EvaluationError(f"{path}: inputs is {inputs.dtype} {list(inputs.shape)}", expected=wanted)
    if labels.dtype.kind not in "iu" or labels.shape != inputs.shape[:1]:
        raise EvaluationError(
            f"{path}: labels is {labels.dtype} {list(labels.shape)}",
            expected=f"whole numbers [{len(inputs)}], one for each of inputs",
        )
    outside = np.flatnonzero((labels < 0) | (labels >= count))
    if len(outside):
        raise EvaluationError(
            f"{path}: labels[{outside[0]}] is {labels[outside[0]]}; {len(outside)} such labels are no class",
            expected=f"0 to {count - 1}",
        )
    everything = [Sample(f"row {row}", int(label)) for row, label in enumerate(labels)]
    places = choose(everything, asked.samples)
    sha = hashlib.sha256(b"npz\n" + hashlib.sha256(content).digest() + np.array(places, "<i8").tobytes())

    def get(start: int, stop: int) -> np.ndarray:
        return inputs[places[start:stop]]

    def picture(place: int) -> Optional[np.ndarray]:
        shown = inputs[places[place]]
        return shown if shown.dtype == np.uint8 and shown.ndim == 3 and shown.shape[2] in (1, 3) else None

    return Data(tuple(everything[place] for place in places), sha.hexdigest(), get, picture)


def _named(path: Path, arrays: Arrays, name: str) -> np.ndarray:
    if name not in arrays or arrays[name].ndim == 0:
        raise EvaluationError(
            f"{path}: has no array {name}; it holds {', '.join(sorted(arrays)) or 'nothing'}",
            expected="inputs [N, *dims] and labels [N]",
        )
    return arrays[name]
