"""TensorFlow -> ONNX: one road for every source. The only module that imports TensorFlow.

The source model is wrapped in one ``tf.function`` with the spec's names and dtypes, casts and
preprocessing inside, and converted from there: the names come out as given with Keras 2 and 3 alike,
while a model's own tensor names change from one Keras to the next.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from builder.errors import ExportError, SourceError
from builder.export import golden, onnx_model, source_model
from builder.export.failures import Failures
from builder.export.source_model import SourceModel
from builder.spec.model import Spec
from models_volume import layout


def available() -> bool:
    """Whether TensorFlow and tf2onnx can be imported here."""
    return all(importlib.util.find_spec(m) is not None for m in ("tensorflow", "tf2onnx"))


def export(spec: Spec, folder: Path, log: Path, *, allow_untrained: bool) -> Dict[str, Any]:
    """Write ``model.onnx`` and ``golden.npz`` into ``folder``; returns the weights' provenance.

    Args:
        log: where the libraries' own words and a failure's traceback go; gone again after success.
        allow_untrained: where ImageNet weights cannot be had, go on with seeded untrained ones.

    Raises:
        SourceError: the model or its weights cannot be loaded, or are not what the spec says.
        ExportError: the conversion failed or the result is not what the spec says.
    """
    tf = _tensorflow()
    with Failures(log) as failures:
        with failures.of_loading(spec.source):
            model, weights = source_model.load(tf, spec, allow_untrained=allow_untrained)
        function = _wrap(tf, spec, model)
        with failures.of_conversion():
            _check_outputs(spec, function)
            proto = _convert(spec, function)
        failures.raise_unknown_ops()
        _save(proto, weights, folder / layout.ONNX)
        with failures.of_running():
            golden.write(folder / layout.GOLDEN, spec, lambda inputs: _run(tf, spec, function, inputs))
        onnx_model.check(folder / layout.ONNX, spec, None)
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


def _wrap(tf: Any, spec: Spec, model: SourceModel) -> Any:
    """The source model as one tf.function from the spec's inputs to a dict of the spec's outputs."""
    names = [i.name for i in model.inputs]
    order = source_model.match("input", spec.inputs, names)
    if sorted(order) != list(range(len(names))):
        raise SourceError(
            f"the model has the inputs {', '.join(names)}", expected="each of them once in the spec"
        )
    source_model.check_inputs(spec.inputs, [model.inputs[place] for place in order])
    picks = source_model.match("output", spec.outputs, model.outputs)
    signature = [
        tf.TensorSpec([None, *_free(i.dims)], tf.as_dtype(i.dtype.numpy), name=i.name) for i in spec.inputs
    ]

    def run(*tensors: Any) -> Dict[str, Any]:
        fed: List[Any] = [None] * len(names)
        for tensor, wanted, place in zip(tensors, spec.inputs, order):
            dtype = model.inputs[place].dtype
            if wanted.preprocess_where == "graph" and wanted.preprocessing is not None:
                fed[place] = tf.cast(wanted.preprocessing.apply(tf.cast(tensor, tf.float32)), dtype)
            else:
                fed[place] = tf.cast(tensor, dtype)
        answers = model.call(fed)
        given = {o.name: answers[place] for o, place in zip(spec.outputs, picks)}
        source_model.check_numbers("output", {name: t.dtype.name for name, t in given.items()})
        return {o.name: tf.cast(given[o.name], tf.as_dtype(o.dtype.numpy)) for o in spec.outputs}

    return tf.function(run, input_signature=signature)


def _free(dims: Sequence[int]) -> List[Optional[int]]:
    return [None if d == -1 else d for d in dims]


def _check_outputs(spec: Spec, function: Any) -> None:
    """The model's own output shapes against the spec's, where tracing can tell them."""
    shapes = function.get_concrete_function().structured_outputs
    for output in spec.outputs:
        source_model.check_dims("output", output, shapes[output.name].shape)


def _convert(spec: Spec, function: Any) -> Any:
    import tf2onnx

    proto, _ = tf2onnx.convert.from_function(
        function, input_signature=function.input_signature, opset=spec.opset
    )
    return proto


def _save(proto: Any, weights: Dict[str, Any], path: Path) -> None:
    import onnx

    onnx_model.set_weights(proto, weights)
    try:
        onnx.save(proto, str(path))
    except ValueError as e:  # protobuf's 2 GiB limit
        raise ExportError(
            "the exported model is larger than an ONNX file can be", details=str(e)[:2000]
        ) from e


def _run(tf: Any, spec: Spec, function: Any, inputs: golden.Arrays) -> golden.Arrays:
    count = len(next(iter(inputs.values())))
    parts: Dict[str, List[np.ndarray]] = {o.name: [] for o in spec.outputs}
    for start in range(0, count, spec.batch.max):
        rows = slice(start, start + spec.batch.max)
        answer = function(*(tf.constant(inputs[i.name][rows]) for i in spec.inputs))
        for name, part in parts.items():
            part.append(answer[name].numpy())
    return {name: np.concatenate(part) for name, part in parts.items()}
