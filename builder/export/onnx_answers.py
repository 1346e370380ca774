"""Golden samples for a model that is ONNX already and brings none: onnxruntime's answers to seeded inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from builder.errors import ExportError
from builder.export import golden, onnx_model
from builder.spec.model import Spec

REFERENCE = "onnxruntime's answers"


def write(spec: Spec, onnx: Path, file: Path) -> None:
    """Write the golden samples of ``onnx`` into ``file``.

    Raises:
        ExportError: the model is not the spec's, or onnxruntime is not installed or cannot run it.
        SourceError: a samples file does not fit its tensor, or an answer is not finite.
    """
    onnx_model.check(onnx, spec, None)
    golden.write(file, spec, lambda inputs: _answer(spec, onnx, inputs))


def _answer(spec: Spec, onnx: Path, inputs: golden.Arrays) -> golden.Arrays:
    count = len(next(iter(inputs.values())))
    names = [o.name for o in spec.outputs]
    parts = []
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
        for start in range(0, count, spec.batch.max):
            feed = {name: a[start : start + spec.batch.max] for name, a in inputs.items()}
            parts.append(session.run(names, feed))
    except Exception as e:  # ImportError, and onnxruntime's errors, which have no public base class
        reason = (str(e).splitlines() or [type(e).__name__])[0][:300]
        raise ExportError(
            f"{onnx}: has no golden samples, and onnxruntime cannot make them: {reason}",
            expected="a model that onnxruntime runs on the inputs that the spec describes",
            remedy="say under samples: what its inputs are like, or give golden samples of your own "
            "(source: {onnx: FILE, golden: FILE.npz})",
        ) from e
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}
