"""The two engines behind one small interface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional

import numpy as np

from builder.errors import EngineError
from builder.spec.model import Spec

Arrays = Dict[str, np.ndarray]
LOG = "build.log"


@dataclass(frozen=True)
class Built:
    """What a build left behind: the command (empty for none), seconds, and what its log told.

    Attributes:
        cached: whether it was built before, and taken from the cache.
        gpu_busy_percent: how busy the GPU was for others when it was built; None where nobody can tell.
    """

    argv: List[str]
    seconds: float
    identity: Dict[str, Any]
    cached: bool = False
    gpu_busy_percent: Optional[int] = None


class Engine:
    """Turns an ONNX model into what Triton loads, and runs it here.

    Attributes:
        name: "tensorrt" or "onnxruntime", also Triton's name of the backend.
        filename: what the engine file is called in a version directory.
        max_opset: the highest ONNX op set it reads; None where no limit is known.
    """

    name: str
    filename: str
    max_opset: Optional[int] = None

    def identity(self) -> Dict[str, Any]:
        """Name, version and, for TensorRT, the GPU: what an engine is bound to. No GPU work."""
        raise NotImplementedError

    def recipe(self, spec: Spec, onnx: Path) -> List[str]:  # noqa: ARG002  (an engine's own)
        """The command that makes the engine, with neutral names of files; empty where there is none.

        For the fingerprint: another command makes another engine. Runs nothing.
        """
        return []

    def build(self, spec: Spec, onnx: Path, engine: Path, work: Path) -> Built:
        """Build ``engine`` from ``onnx``; raises EngineError with the tool's own words.

        ``work`` is an existing folder on the engine's file system for what lies about meanwhile; the
        tool's output is appended to ``build.log`` in it.
        """
        raise NotImplementedError

    def run(self, spec: Spec, engine: Path, inputs: Arrays, work: Path) -> Arrays:
        """Run one batch: arrays [n, *dims] by input name to arrays [n, *dims] by output name."""
        raise NotImplementedError


def create(name: str, *, timing_caches: Optional[Path] = None) -> Engine:
    """The engine called ``name``; raises EngineError where it cannot be used.

    ``timing_caches`` is a folder that may be deleted at any time, where TensorRT's timings are kept from one
    build to the next; None keeps none.
    """
    if name == "tensorrt":
        from builder.engine.tensorrt import TensorRT  # each engine needs only its own imports

        return TensorRT.find(timing_caches)
    if name == "onnxruntime":
        from builder.engine.onnxruntime import OnnxRuntime

        return OnnxRuntime()
    raise EngineError(f'there is no engine "{name}"', expected="tensorrt or onnxruntime")
