"""TensorFlow -> ONNX: one road for every source. The only module that imports TensorFlow.

The source model is wrapped in one ``tf.function`` with the spec's names and dtypes, casts and
preprocessing inside, and converted from there: the names come out as given with Keras 2 and 3 alike,
while a model's own tensor names change from one Keras to the next.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple, Union

import numpy as np

from builder.errors import ExportError, SourceError
from builder.export import golden, onnx_model
from builder.spec.model import Input, Output, Source, Spec, Weights
from models_volume.layout import GOLDEN

# A source model as a function of its own tensors, with their names and dtypes in order.
_Call = Callable[[List[Any]], List[Any]]


@dataclass(frozen=True)
class _Model:
    inputs: List[Tuple[str, Any]]  # name, tf.DType
    outputs: List[str]
    call: _Call
    keep: Any  # what owns the variables; a SavedModel's are gone with its object


def available() -> bool:
    """Whether TensorFlow and tf2onnx can be imported here."""
    return all(importlib.util.find_spec(m) is not None for m in ("tensorflow", "tf2onnx"))


def export(spec: Spec, folder: Path, *, allow_untrained: bool) -> Dict[str, Any]:
    """Write ``model.onnx`` and ``golden.npz`` into ``folder``; returns the weights' provenance.

    Args:
        allow_untrained: where ImageNet weights cannot be had, go on with seeded untrained ones.

    Raises:
        SourceError: the model or its weights cannot be loaded.
        ExportError: the conversion failed or the result is not what the spec says.
    """
    tf = _tensorflow()
    model, weights = _load(tf, spec, allow_untrained=allow_untrained)
    function = _wrap(tf, spec, model)
    _convert(spec, function, weights, folder / "model.onnx")
    inputs = golden.make_inputs(spec)
    golden.save(folder / GOLDEN, inputs, _run(tf, spec, function, inputs))
    golden.load(folder / GOLDEN, spec)  # shapes, types, finite
    onnx_model.check(folder / "model.onnx", spec, None)
    return weights


def _tensorflow() -> Any:
    if not available():
        raise SourceError(
            "TensorFlow and tf2onnx are not installed here",
            expected="a model source of `onnx`, or an environment with builder/requirements.txt",
            remedy="pip install --require-hashes -r builder/requirements.txt, or export the model on another "
            "machine (python -m builder export MODEL --output DIR) and bring DIR here",
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Without oneDNN's reordered sums the golden outputs are the same on every processor.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    import tensorflow as tf  # seconds to import; most commands do without

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    # TensorFlow would take the whole of a GPU's memory, which trtexec needs next.
    tf.config.set_visible_devices([], "GPU")
    return tf


def _load(tf: Any, spec: Spec, *, allow_untrained: bool) -> Tuple[_Model, Dict[str, Any]]:
    source = spec.source
    try:
        if source.kind == "application":
            return _application(tf, spec, allow_untrained=allow_untrained)
        if source.kind == "keras":
            model = tf.keras.models.load_model(str(source.path), compile=False)
            return _from_keras(tf, model), _in_file(source)
        return _saved_model(tf, str(source.path)), _in_file(source)
    except SourceError:
        raise
    except Exception as e:  # Keras raises plain Exception, ValueError, OSError, TypeError
        raise SourceError(f"{source.kind} {source.name}: cannot be loaded", details=_reason(e)) from e


def _reason(e: BaseException) -> str:
    return (str(e).strip() or type(e).__name__)[:2000]


def _in_file(source: Source) -> Dict[str, Any]:
    return {"kind": "file", "untrained": False, "description": f"as saved in {source.name}"}


def _application(tf: Any, spec: Spec, *, allow_untrained: bool) -> Tuple[_Model, Dict[str, Any]]:
    name, weights = spec.source.name, spec.source.weights
    assert weights is not None  # the spec's loader saw to it
    build = getattr(tf.keras.applications, name, None)
    if not callable(build):
        known = [n for n in dir(tf.keras.applications) if n[0].isupper()]
        raise SourceError(f'keras.applications has no "{name}"', expected=", ".join(known))
    if len(spec.inputs) != 1 or len(spec.outputs) != 1:
        raise SourceError(f"{name} has one input and one output", expected="one of each in the spec")
    size = {"input_shape": spec.inputs[0].dims, "classes": spec.outputs[0].dims[-1]}
    if weights.kind == "imagenet":
        try:
            model = build(weights="imagenet", **size)
        except Exception as e:
            # Keras says "URL fetch failure on ..." as a plain Exception.
            if "URL fetch failure" not in str(e):
                raise
            if not allow_untrained:
                raise SourceError(
                    f"{name}: the ImageNet weights cannot be downloaded",
                    expected="a network, or Keras's cache (~/.keras/models) from a machine that has one",
                    details=_reason(e),
                    remedy="copy that folder here, or name a weights file in the spec "
                    "(weights: {file: PATH, sha256: HASH}), or say so if untrained weights will do "
                    "(weights: {untrained: {seed: 0}})",
                ) from e
            return _untrained(tf, build, size, weights, "the ImageNet weights could not be downloaded")
        return _from_keras(tf, model), {
            "kind": "imagenet", "untrained": False, "description": "ImageNet, from Keras",
        }  # fmt: skip
    if weights.kind == "untrained":
        return _untrained(tf, build, size, weights, "the spec asks for them")
    model = build(weights=str(weights.path), **size)
    description = f"from {weights.path.name if weights.path else ''} (sha256 {weights.sha256})"
    return _from_keras(tf, model), {"kind": "file", "untrained": False, "description": description}


def _untrained(
    tf: Any, build: Any, size: Dict[str, Any], weights: Weights, why: str
) -> Tuple[_Model, Dict[str, Any]]:
    tf.keras.utils.set_random_seed(weights.seed)
    model = build(weights=None, **size)
    return _from_keras(tf, model), {
        "kind": "untrained",
        "untrained": True,
        "description": f"UNTRAINED, seed {weights.seed}: {why}",
    }


def _from_keras(tf: Any, model: Any) -> _Model:
    inputs = [(_bare(t.name), tf.as_dtype(t.dtype)) for t in tf.nest.flatten(model.inputs)]

    def call(tensors: List[Any]) -> List[Any]:
        answer = model(tensors if len(tensors) > 1 else tensors[0], training=False)
        return list(tf.nest.flatten(answer))

    # Keras 3's Sequential has no output_names; with its one output none is needed.
    outputs = getattr(model, "output_names", None) or [_bare(t.name) for t in tf.nest.flatten(model.outputs)]
    return _Model(inputs, list(outputs), call, model)


def _saved_model(tf: Any, path: str) -> _Model:
    loaded = tf.saved_model.load(path)
    signatures = loaded.signatures
    if not signatures:
        raise SourceError(f"{path}: the SavedModel has no signature", expected="serving_default")
    name = "serving_default" if "serving_default" in signatures else next(iter(signatures))
    signature = signatures[name]
    specs = signature.structured_input_signature[1]
    inputs = [(key, spec.dtype) for key, spec in sorted(specs.items())]
    outputs = sorted(signature.structured_outputs)

    def call(tensors: List[Any]) -> List[Any]:
        answer = signature(**{key: t for (key, _), t in zip(inputs, tensors)})
        return [answer[key] for key in outputs]

    return _Model(inputs, outputs, call, loaded)


def _bare(tensor_name: str) -> str:
    return tensor_name.split(":", maxsplit=1)[0]


def _match(side: str, tensors: Sequence[Union[Input, Output]], names: List[str]) -> List[int]:
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


def _wrap(tf: Any, spec: Spec, model: _Model) -> Any:
    """The source model as one tf.function from the spec's inputs to a dict of the spec's outputs."""
    names = [name for name, _ in model.inputs]
    order = _match("input", spec.inputs, names)
    if sorted(order) != list(range(len(names))):
        raise SourceError(
            f"the model has the inputs {', '.join(names)}", expected="each of them once in the spec"
        )
    picks = _match("output", spec.outputs, model.outputs)
    signature = [tf.TensorSpec([None, *i.dims], tf.as_dtype(i.dtype.numpy), name=i.name) for i in spec.inputs]

    def run(*tensors: Any) -> Dict[str, Any]:
        fed: List[Any] = [None] * len(names)
        for tensor, wanted, place in zip(tensors, spec.inputs, order):
            dtype = model.inputs[place][1]
            if wanted.preprocess_where == "graph" and wanted.preprocessing is not None:
                fed[place] = tf.cast(wanted.preprocessing.apply(tf.cast(tensor, tf.float32)), dtype)
            else:
                fed[place] = tf.cast(tensor, dtype)
        answers = model.call(fed)
        return {o.name: tf.cast(answers[p], tf.as_dtype(o.dtype.numpy)) for o, p in zip(spec.outputs, picks)}

    return tf.function(run, input_signature=signature)


def _convert(spec: Spec, function: Any, weights: Dict[str, Any], path: Path) -> None:
    import onnx
    import tf2onnx

    try:
        proto, _ = tf2onnx.convert.from_function(
            function, input_signature=function.input_signature, opset=spec.opset
        )
    except Exception as e:  # tf2onnx and TensorFlow raise whatever they met
        raise ExportError("tf2onnx could not convert the model", details=_reason(e)) from e
    onnx_model.set_weights(proto, weights)
    try:
        onnx.save(proto, str(path))
    except ValueError as e:  # protobuf's 2 GiB limit
        raise ExportError("the exported model is larger than an ONNX file can be", details=_reason(e)) from e


def _run(tf: Any, spec: Spec, function: Any, inputs: golden.Arrays) -> golden.Arrays:
    count = len(next(iter(inputs.values())))
    parts: Dict[str, List[np.ndarray]] = {o.name: [] for o in spec.outputs}
    for start in range(0, count, spec.batch.max):
        rows = slice(start, start + spec.batch.max)
        answer = function(*(tf.constant(inputs[i.name][rows]) for i in spec.inputs))
        for name, part in parts.items():
            part.append(answer[name].numpy())
    return {name: np.concatenate(part) for name, part in parts.items()}
