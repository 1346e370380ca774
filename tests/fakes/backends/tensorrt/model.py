"""A FAKE TensorRT backend for a real Triton: serves the plans of tests/fakes/trtexec.py on the CPU."""

import importlib.util
import json
import sys
from pathlib import Path

import onnxruntime
import triton_python_backend_utils as pb

_real = Path(__file__).parents[1] / "onnxruntime"
sys.path.insert(
    0, str(_real)
)  # Triton puts only this folder there, and the real backend has modules beside it
_spec = importlib.util.spec_from_file_location("onnxruntime_backend", _real / "model.py")
_backend = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_backend)

MAGIC = b"FAKE-PLAN\n"
TYPES = {
    "tensor(float)": "TYPE_FP32",
    "tensor(float16)": "TYPE_FP16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(uint8)": "TYPE_UINT8",
}


class TritonPythonModel(_backend.TritonPythonModel):
    def model(self, file, config):
        """The ONNX bytes in a fake plan; refuses a damaged one in the real backend's words."""
        data = file.read_bytes()
        if not data.startswith(MAGIC):
            raise pb.TritonModelException("unable to create TensorRT engine")
        profile, model = data[len(MAGIC) :].split(b"\n", 1)
        largest = json.loads(profile)["--maxShapes"]
        if config["max_batch_size"] > largest:
            raise pb.TritonModelException(
                f"configuration specified max-batch {config['max_batch_size']} but TensorRT engine only "
                f"supports max-batch {largest}"
            )
        self._check_types(model, config)
        return model

    def _check_types(self, model, config):
        """The real backend refuses a configuration whose types are not the engine's."""
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        for side, tensors in (("input", session.get_inputs()), ("output", session.get_outputs())):
            found = {t.name: TYPES[t.type] for t in tensors}
            for tensor in config[side]:
                if tensor["data_type"] != found[tensor["name"]]:
                    raise pb.TritonModelException(
                        f"unexpected datatype {found[tensor['name']]} for inference {side} "
                        f"'{tensor['name']}', expecting {tensor['data_type']}"
                    )
