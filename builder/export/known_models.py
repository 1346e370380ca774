"""Models that a spec names and no file holds: those of keras.applications, and our own architectures.

TensorFlow itself is handed in, as in ``source_model``.
"""

from __future__ import annotations

import importlib
from typing import Any, Dict, Tuple

from builder.errors import SourceError
from builder.export import state_dict
from builder.spec.model import Spec, Weights

# What every machine with a package index can have: said where ImageNet's weights cannot be had.
TRAINED = "efficientnet_lite0"


def build(tf: Any, spec: Spec, *, allow_untrained: bool) -> Tuple[Any, Dict[str, Any]]:
    """The Keras model and its weights' provenance; raises SourceError, as ``source_model.load`` does."""
    name = spec.source.name
    if len(spec.inputs) != 1 or len(spec.outputs) != 1:
        raise SourceError(f"{name} has one input and one output", expected="one of each in the spec")
    if spec.source.kind == "architecture":
        return _architecture(tf, spec)
    return _application(tf, spec, allow_untrained=allow_untrained)


def _architecture(tf: Any, spec: Spec) -> Tuple[Any, Dict[str, Any]]:
    weights = spec.source.weights
    assert weights is not None  # the spec's loader saw to it
    architecture = importlib.import_module(f"builder.export.architectures.{spec.source.name}")
    if weights.kind == "untrained":
        tf.keras.utils.set_random_seed(weights.seed)
        return architecture.build(tf, None), _untrained(weights, "the spec asks for them")
    assert weights.path is not None
    return architecture.build(tf, state_dict.read(weights.path)), _from(weights)


def _application(tf: Any, spec: Spec, *, allow_untrained: bool) -> Tuple[Any, Dict[str, Any]]:
    name, weights = spec.source.name, spec.source.weights
    assert weights is not None  # the spec's loader saw to it
    make = getattr(tf.keras.applications, name, None)
    if not callable(make):
        known = [n for n in dir(tf.keras.applications) if n[0].isupper()]
        raise SourceError(f'keras.applications has no "{name}"', expected=", ".join(known))
    shape = tuple(None if d == -1 else d for d in spec.inputs[0].dims)
    size = {"input_shape": shape, "classes": spec.outputs[0].dims[-1]}
    if weights.kind == "untrained":
        return _seeded(tf, make, size, weights), _untrained(weights, "the spec asks for them")
    if weights.kind != "imagenet":
        return make(weights=str(weights.path), **size), _from(weights)
    try:
        model = make(weights="imagenet", **size)
    except Exception as e:
        # Keras says "URL fetch failure on ..." as a plain Exception.
        if "URL fetch failure" not in str(e):
            raise
        if not allow_untrained:
            raise SourceError(
                f"{name}: the ImageNet weights cannot be downloaded",
                expected="a network, or Keras's cache (~/.keras/models) from a machine that has one",
                details=str(e)[:2000],
                remedy="copy that folder here, or name a weights file in the spec "
                "(weights: {file: PATH, sha256: HASH}), or say so if untrained weights will do "
                f"(weights: {{untrained: {{seed: 0}}}}); --model {TRAINED} has trained weights from the "
                "package index",
            ) from e
        why = "the ImageNet weights could not be downloaded"
        return _seeded(tf, make, size, weights), _untrained(weights, why)
    return model, {"kind": "imagenet", "untrained": False, "description": "ImageNet, from Keras"}


def _from(weights: Weights) -> Dict[str, Any]:
    source, sha256 = weights.package, weights.sha256
    if source is not None:
        return {
            "kind": "package",
            "untrained": False,
            "description": f"from {source} (sha256 {source.sha256})",
        }
    name = weights.path.name if weights.path else ""
    return {"kind": "file", "untrained": False, "description": f"from {name} (sha256 {sha256})"}


def _seeded(tf: Any, make: Any, size: Dict[str, Any], weights: Weights) -> Any:
    tf.keras.utils.set_random_seed(weights.seed)
    return make(weights=None, **size)


def _untrained(weights: Weights, why: str) -> Dict[str, Any]:
    return {
        "kind": "untrained",
        "untrained": True,
        "description": f"UNTRAINED, seed {weights.seed}: {why}",
    }
