"""The CPU engine: the exported ONNX itself, run by onnxruntime."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any, Dict

from builder.engine import LOG, Arrays, Built, Engine
from builder.errors import EngineError
from builder.spec.model import Spec


class OnnxRuntime(Engine):
    """The same contract as TensorRT where there is no GPU."""

    name = "onnxruntime"
    filename = "model.onnx"

    def __init__(self) -> None:
        try:
            import onnxruntime
        except ImportError as e:
            raise EngineError(
                "onnxruntime is not installed here",
                remedy="pip install --require-hashes -r builder/requirements.txt",
            ) from e
        self._ort = onnxruntime
        self._session: Any = None
        self._session_of = Path()

    def identity(self) -> Dict[str, Any]:
        """Name and version."""
        return {"name": self.name, "version": self._ort.__version__, "gpu": None}

    def build(self, spec: Spec, onnx: Path, engine: Path, work: Path) -> Built:  # noqa: ARG002  (Engine's)
        """Copy the model and load it once; raises EngineError when onnxruntime refuses it."""
        began = time.monotonic()
        shutil.copyfile(onnx, engine)
        self._load(engine)
        (work / LOG).write_text(f"onnxruntime {self._ort.__version__} loaded {onnx.name}\n", "utf-8")
        return Built([], time.monotonic() - began, self.identity())

    def run(self, spec: Spec, engine: Path, inputs: Arrays, work: Path) -> Arrays:  # noqa: ARG002  (Engine's)
        """Run one batch in process."""
        names = [o.name for o in spec.outputs]
        try:
            return dict(zip(names, self._load(engine).run(names, inputs)))
        except Exception as e:  # onnxruntime's errors have no public base class
            raise EngineError(f"onnxruntime could not run {engine.name}", details=str(e)[:2000]) from e

    def _load(self, engine: Path) -> Any:
        if self._session_of != engine:
            options = self._ort.SessionOptions()
            options.log_severity_level = 3
            try:
                self._session = self._ort.InferenceSession(
                    str(engine), options, providers=["CPUExecutionProvider"]
                )
            except Exception as e:
                raise EngineError(f"onnxruntime could not load {engine.name}", details=str(e)[:2000]) from e
            self._session_of = engine
        return self._session
