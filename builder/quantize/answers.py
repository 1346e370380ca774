"""What an ONNX model answers under onnxruntime, and how far two answers are apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Union

import numpy as np
import onnx

from builder.errors import QuantizationError

Arrays = Dict[str, np.ndarray]

MOST_DB = 200.0  # of answers that are equal to the last bit; JSON knows no infinity


def optimize(source: Path, target: Path) -> None:
    """Write ``source`` into ``target`` as onnxruntime's basic optimizations leave it."""
    import onnxruntime

    options = _options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    _load(source, options)


def run(model: Union[Path, onnx.ModelProto], inputs: Arrays, batch: Optional[int] = None) -> Arrays:
    """All outputs by name for ``inputs`` [n, *dims], computed in batches of ``batch`` (all at once without).

    Raises:
        QuantizationError: onnxruntime cannot load or run the model.
    """
    return Runner(model).run(inputs, batch)


class Runner:
    """A loaded model."""

    def __init__(self, model: Union[Path, onnx.ModelProto]) -> None:
        self._session = _load(model, _options())
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, inputs: Arrays, batch: Optional[int] = None) -> Arrays:
        """As the function ``run``."""
        count = len(next(iter(inputs.values())))
        size = batch or count
        parts = []
        try:
            for start in range(0, count, size):
                feed = {name: array[start : start + size] for name, array in inputs.items()}
                parts.append(self._session.run(self._names, feed))
        except Exception as e:  # onnxruntime's errors have no public base class
            raise QuantizationError("onnxruntime cannot run the model", details=str(e)[:2000]) from e
        return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(self._names)}


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return options


def _load(model: Union[Path, onnx.ModelProto], options: Any) -> Any:
    import onnxruntime

    given = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # as above
        raise QuantizationError("onnxruntime cannot load the model", details=str(e)[:2000]) from e


def sqnr_db(reference: np.ndarray, found: np.ndarray) -> float:
    """Signal to quantization noise ratio in decibels: 10 log10(sum(reference^2) / sum(difference^2)).

    From -200 to 200; -200 where something is not finite.
    """
    signal = np.asarray(reference, np.float64).ravel()
    noise = signal - np.asarray(found, np.float64).ravel()
    if not np.isfinite(noise).all():
        return -MOST_DB
    power, error = float(signal @ signal), float(noise @ noise)
    if error == 0.0:
        return MOST_DB
    if power == 0.0:
        return -MOST_DB
    return float(np.clip(10 * np.log10(power / error), -MOST_DB, MOST_DB))
