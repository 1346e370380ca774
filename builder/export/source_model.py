"""A TensorFlow model as it was saved, loaded: its tensors by name, and a function of them.

TensorFlow itself is handed in: importing it takes seconds, and ``tensorflow`` alone does so.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from builder.errors import SourceError
from builder.export import known_models
from builder.spec.model import Input, Output, Source, Spec

SAVE_ANEW = (
    "where its code is: model.export(FOLDER), then saved_model: FOLDER in place of keras: FILE, which holds "
    "the computation and needs no code"
)
_NUMBERS = ("float", "int", "uint", "bfloat", "bool")


@dataclass(frozen=True)
class Tensor:
    """An input of the source model: TensorFlow's own dtype and TensorShape."""

    name: str
    dtype: Any
    shape: Any


@dataclass(frozen=True)
class SourceModel:
    """A source model as a function of its own tensors, with their names in order."""

    inputs: List[Tensor]
    outputs: List[str]
    call: Callable[[List[Any]], List[Any]]
    keep: Any  # what owns the variables; a SavedModel's are gone with its object


def load(tf: Any, spec: Spec, *, allow_untrained: bool) -> Tuple[SourceModel, Dict[str, Any]]:
    """The source model and its weights' provenance.

    Raises:
        SourceError: the spec names something that is not there. Whatever the libraries raise for a file
            that they cannot read is for ``failures`` to put into words.
    """
    source = spec.source
    if source.kind in ("application", "architecture"):
        model, weights = known_models.build(tf, spec, allow_untrained=allow_untrained)
        return _from_keras(tf, model), weights
    if source.kind == "keras":
        assert source.path is not None
        return _from_keras(tf, _read_keras(tf, source.path)), _in_file(source)
    return _saved_model(tf, str(source.path), source.signature), _in_file(source)


def _read_keras(tf: Any, path: Path) -> Any:
    """The model in a .keras or .h5 file, by the Keras that wrote it: Keras 3 reads few files of Keras 2."""
    if keras_version(path).startswith("2."):
        import tf_keras

        return tf_keras.models.load_model(str(path), compile=False)
    return tf.keras.models.load_model(str(path), compile=False)


def keras_version(path: Path) -> str:
    """The version that a Keras file names as its writer's; empty where it names none."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as z:
                return str(json.loads(z.read("metadata.json")).get("keras_version", ""))
        import h5py

        with h5py.File(path) as f:
            version = f.attrs.get("keras_version", "")
            return version.decode() if isinstance(version, bytes) else str(version)
    except (OSError, ValueError, KeyError, AttributeError, zipfile.BadZipFile):
        return ""


def _in_file(source: Source) -> Dict[str, Any]:
    return {"kind": "file", "untrained": False, "description": f"as saved in {source.name}"}


def _from_keras(tf: Any, model: Any) -> SourceModel:
    if not model.inputs or not model.outputs:
        raise SourceError(
            f"the Keras model {type(model).__name__} does not say what its inputs and outputs are",
            expected="a functional or Sequential model that has been built",
            remedy=SAVE_ANEW,
        )
    inputs = [Tensor(_bare(t.name), tf.as_dtype(t.dtype), t.shape) for t in tf.nest.flatten(model.inputs)]

    def call(tensors: List[Any]) -> List[Any]:
        answer = model(tensors if len(tensors) > 1 else tensors[0], training=False)
        return list(tf.nest.flatten(answer))

    # Keras 3's Sequential has no output_names, and its tensors' own names differ from run to run.
    places = range(len(tf.nest.flatten(model.outputs)))
    outputs = getattr(model, "output_names", None) or [f"output_{place}" for place in places]
    return SourceModel(inputs, list(outputs), call, model)


def _saved_model(tf: Any, path: str, wanted: Optional[str]) -> SourceModel:
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures[pick_signature(path, list(loaded.signatures), wanted)]
    specs = signature.structured_input_signature[1]
    inputs = [Tensor(key, spec.dtype, spec.shape) for key, spec in sorted(specs.items())]
    outputs = sorted(signature.structured_outputs)

    def call(tensors: List[Any]) -> List[Any]:
        answer = signature(**{i.name: t for i, t in zip(inputs, tensors)})
        return [answer[key] for key in outputs]

    return SourceModel(inputs, outputs, call, loaded)


def pick_signature(path: str, names: List[str], wanted: Optional[str]) -> str:
    """The signature that is meant: the spec's, serving_default, or the only one; raises SourceError."""
    if not names:
        raise SourceError(
            f"{path}: the SavedModel has no signature",
            expected="serving_default",
            remedy="save it with tf.saved_model.save(model, FOLDER, signatures=FUNCTION)",
        )
    listed = ", ".join(names)
    if wanted is not None:
        if wanted not in names:
            raise SourceError(
                f'{path}: the SavedModel has no signature "{wanted}"', expected=f"signature: one of {listed}"
            )
        return wanted
    if "serving_default" in names:
        return "serving_default"
    if len(names) > 1:
        raise SourceError(
            f"{path}: the SavedModel has several signatures and none is serving_default: {listed}",
            expected=f"signature: one of {listed}",
            remedy=f"name the one that is meant under source: in the spec (signature: {names[0]})",
        )
    return names[0]


def _bare(tensor_name: str) -> str:
    return tensor_name.split(":", maxsplit=1)[0]


def match(side: str, tensors: Sequence[Union[Input, Output]], names: List[str]) -> List[int]:
    """For each tensor of the spec, its place among the source model's ``names``."""
    if len(tensors) == 1 and len(names) == 1:
        return [0]
    places = []
    for tensor in tensors:
        own = tensor.tensor or tensor.name
        if own not in names:
            raise SourceError(
                f'the model has no {side} called "{own}"',
                expected=f"one of {', '.join(names)}",
                remedy=f"add `tensor: NAME` to the spec's {side} {tensor.name}",
            )
        places.append(names.index(own))
    return places


def check_inputs(tensors: Sequence[Input], own: Sequence[Tensor]) -> None:
    """The spec's inputs against the model's own, in the same order; raises SourceError."""
    check_numbers("input", {mine.name: mine.dtype.name for mine in own})
    for tensor, mine in zip(tensors, own):
        check_dims("input", tensor, mine.shape)
        sizes = _sizes(mine.shape)
        if sizes and sizes[0] is not None:
            raise SourceError(
                f"the model's input {mine.name} has a fixed batch of {sizes[0]}",
                expected="a batch of any size: None in its first dimension",
                remedy="save the model with None there (keras.Input(DIMS), tf.TensorSpec([None, ...]))",
            )


def check_numbers(side: str, dtypes: Dict[str, str]) -> None:
    """Raise SourceError for a tensor that holds no numbers."""
    for name, dtype in dtypes.items():
        if not dtype.startswith(_NUMBERS):
            raise SourceError(
                f"the model's {side} {name} is of dtype {dtype}",
                expected="numbers: neither TensorRT nor a batch of Triton's takes strings",
                remedy="cut the model behind the layer that turns text into numbers (TextVectorization, "
                "StringLookup), save the rest, and do that part where requests are made",
            )


def check_dims(side: str, tensor: Union[Input, Output], shape: Any) -> None:
    """Raise SourceError where the model's own shape, as far as it is known, cannot be the spec's."""
    sizes = _sizes(shape)
    if sizes is None:
        return
    own = sizes[1:]
    fits = all(mine in (None, dim) or (dim == -1 and side == "output") for mine, dim in zip(own, tensor.dims))
    if len(own) != len(tensor.dims) or not fits:
        really = ", ".join("any" if n is None else str(n) for n in own)
        raise SourceError(
            f"{side} {tensor.name} has the dims {list(tensor.dims)} in the spec and [{really}] in the model",
            expected=f"dims: [{really}]",
            remedy=f"write the model's own dims (without the batch) into the spec's {side} {tensor.name}",
        )


def _sizes(shape: Any) -> Optional[List[Optional[int]]]:
    """A TensorShape, or Keras 3's tuple, as a list; None where not even its rank is known."""
    if getattr(shape, "rank", 0) is None:
        return None
    return [None if n is None else int(n) for n in shape]
