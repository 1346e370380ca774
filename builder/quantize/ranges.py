"""The range of every activation that may be quantized, measured by onnxruntime's calibrators."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    EntropyCalibrater,
    MinMaxCalibrater,
    PercentileCalibrater,
)

from builder import progress
from builder.errors import QuantizationError
from builder.quantize.answers import Arrays

# onnxruntime's own 128 bins leave the entropy method nothing to choose from: 128 levels are the whole range.
_BINS, _LEVELS = 2048, 128
_PERCENTILE = 99.999
_NEWS = 10.0  # seconds between two lines


class _Batch(CalibrationDataReader):  # type: ignore[misc]
    """One batch: onnxruntime keeps all activations of what a reader has until it has read everything."""

    def __init__(self, inputs: Arrays) -> None:
        self._left = [inputs]

    def get_next(self) -> Arrays | None:
        """The batch, then None."""
        return self._left.pop() if self._left else None


def measure(
    model: onnx.ModelProto, tensors: Iterable[str], inputs: Arrays, batch: int, method: str, work: Path
) -> Any:
    """Ranges by tensor name, as the quantizer takes them.

    Args:
        inputs: calibration samples [n, *dims] by input name.
        batch: how many run together; activations of that many are in memory at once.
        method: "minmax", "entropy" or "percentile".
        work: a folder of ours, for the models in which activations are outputs.

    Raises:
        QuantizationError: an activation is not finite on this data.
    """
    source = work / "calibrated.onnx"
    onnx.save(model, str(source))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a line for every batch
        calibrator = _calibrator(source, set(tensors), method, work / "augmented.onnx")
        count = len(next(iter(inputs.values())))
        began = told = time.monotonic()
        for start in range(0, count, batch):
            calibrator.collect_data(_Batch({n: a[start : start + batch] for n, a in inputs.items()}))
            now = time.monotonic()
            if now - told > _NEWS:
                done = min(start + batch, count)
                left = (now - began) / done * (count - done)
                progress.detail(f"  {done} of {count} calibration samples, about {left:.0f} s more")
                told = now
        found = calibrator.compute_data()
    for name, data in found.items():
        low, high = (float(np.ravel(value)[0]) for value in data.range_value)
        if not abs(low) + abs(high) < float("inf"):
            raise QuantizationError(
                f"activation {name} is not finite on the calibration data",
                expected="a model that gives finite values on it",
            )
    return found


def _calibrator(source: Path, tensors: set[str], method: str, augmented: Path) -> Any:
    base: Any
    options: dict[str, float]
    if method == "minmax":
        base, options = MinMaxCalibrater, {}
    elif method == "entropy":
        base, options = EntropyCalibrater, {"num_bins": _BINS, "num_quantized_bins": _LEVELS}
    else:
        base, options = PercentileCalibrater, {"num_bins": _BINS, "percentile": _PERCENTILE}

    def chosen(self: Any, model: Any) -> Any:
        """Of these tensors only: onnxruntime goes by the kind of operation."""
        _every, infos = base.select_tensors_to_calibrate(self, model)
        return [name for name in infos if name in tensors], infos

    kind = type("Chosen", (base,), {"select_tensors_to_calibrate": chosen})
    calibrator = kind(source, augmented_model_path=str(augmented), symmetric=True, **options)
    calibrator.augment_graph()
    calibrator.create_inference_session()
    return calibrator
