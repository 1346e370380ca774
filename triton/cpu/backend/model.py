"""Triton's onnxruntime backend for a machine without a GPU, as a Python-based backend.

A release for it is a plain Triton ONNX model (config.pbtxt, labels, <N>/model.onnx), so NVIDIA's own
onnxruntime backend can serve the same directory.

Requests that Triton hands over together are joined, run once and answered each; when the joined run
fails, each runs alone, so that one bad request never spoils its neighbours.
"""

from __future__ import annotations

import ctypes
import json
from pathlib import Path
from typing import Any, Dict, List, Union

import numpy as np
import session
import triton_python_backend_utils as pb

# Triton 2.51 marks a DLPack capsule as consumed under a name that NumPy does not know ("used_dlpack");
# NumPy's destructor then raises where nobody catches, which was seen to end the server. This is the
# standard's name for it.
_CONSUMED = b"used_dltensor"
_set_name = ctypes.pythonapi.PyCapsule_SetName
_set_name.argtypes = [ctypes.py_object, ctypes.c_char_p]


def _tensor(name: str, array: np.ndarray) -> Any:
    """A Triton tensor around ``array`` without a copy, whatever NumPy it comes from.

    Triton 2.51's own ``Tensor(name, array)`` was compiled against NumPy 1 and silently makes an empty
    tensor of a NumPy 2 array.
    """
    capsule = array.__dlpack__()
    tensor = pb.Tensor.from_dlpack(name, capsule)
    _set_name(capsule, _CONSUMED)
    return tensor


class TritonPythonModel:
    """One instance of one model."""

    def initialize(self, args: Dict[str, str]) -> None:
        """Load the model; raising here makes the version unavailable, with this error as its reason."""
        config = json.loads(args["model_config"])
        self._inputs = [i["name"] for i in config["input"]]
        self._outputs = [o["name"] for o in config["output"]]
        file = Path(args["model_repository"]) / args["model_version"] / config["default_model_filename"]
        self._session = session.load(self.model(file, config), config)

    def model(self, file: Path, config: Dict[str, Any]) -> Union[str, bytes]:  # noqa: ARG002
        """What onnxruntime is to load: a path, or the model's bytes."""
        return str(file)

    def execute(self, requests: List[Any]) -> List[Any]:
        """Answer ``requests``, whose batches Triton has kept within ``max_batch_size`` together."""
        feeds = [
            {name: np.from_dlpack(pb.get_input_tensor_by_name(r, name)) for name in self._inputs}
            for r in requests
        ]
        if len(feeds) == 1:
            return [self._answer(feeds[0])]
        try:
            joined = {name: np.concatenate([f[name] for f in feeds]) for name in self._inputs}
            outputs = self._session.run(self._outputs, joined)
        except Exception:  # noqa: BLE001  (any of them may be the bad one)
            return [self._answer(f) for f in feeds]
        responses, start = [], 0
        for feed in feeds:
            end = start + len(feed[self._inputs[0]])
            responses.append(self._response([o[start:end] for o in outputs]))
            start = end
        return responses

    def _answer(self, feed: Dict[str, np.ndarray]) -> Any:
        try:
            return self._response(self._session.run(self._outputs, feed))
        except Exception as e:  # noqa: BLE001  (onnxruntime's errors have no public base class)
            return pb.InferenceResponse(error=pb.TritonError(f"onnxruntime: {e}"))

    def _response(self, arrays: List[np.ndarray]) -> Any:
        return pb.InferenceResponse([_tensor(n, a) for n, a in zip(self._outputs, arrays)])
