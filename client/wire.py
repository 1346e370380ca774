"""One request to Triton over HTTP or gRPC, through tritonclient; arrays travel as binary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from client.errors import ClientError, ServerError

Arrays = dict[str, np.ndarray]
# The v2 protocol's names of NumPy's types (KServe predict protocol, "Tensor Data Types").
_NAMES = {"float16": "FP16", "float32": "FP32", "uint8": "UINT8", "int32": "INT32", "float64": "FP64"}


class Wire:
    """A connection that is kept open and used for every request.

    Args:
        protocol: "http" or "grpc".
        address: host:port.
        timeout: seconds for connecting and for each answer.

    Raises:
        ClientError: tritonclient is not installed for that protocol.
    """

    def __init__(self, protocol: str, address: str, timeout: float) -> None:
        self.protocol = protocol
        self.address = address
        self._timeout = timeout
        try:
            if protocol == "http":
                import tritonclient.http as module
            else:
                import tritonclient.grpc as module
        except (ImportError, RuntimeError) as e:  # tritonclient turns a missing dependency into RuntimeError
            raise ClientError(
                f"tritonclient cannot be imported for {protocol}: {e}",
                remedy="pip install --require-hashes -r client/requirements.txt",
            ) from e
        self._module = module
        if protocol == "http":
            self._client = module.InferenceServerClient(
                address, connection_timeout=timeout, network_timeout=timeout
            )
        else:
            self._client = module.InferenceServerClient(address)

    def live(self) -> bool:
        """Whether the server answers at all."""
        return bool(self._call(self._client.is_server_live))

    def ready(self, model: str, version: int) -> bool:
        """Whether that version of the model answers."""
        return bool(self._call(self._client.is_model_ready, model, str(version)))

    def metadata(self, model: str, version: int) -> dict[str, Any]:
        """The server's own account of the model's interface, in HTTP's form; raises ServerError."""
        if self.protocol == "http":
            answer = self._call(self._client.get_model_metadata, model, str(version))
            return dict(answer)
        answer = self._call(self._client.get_model_metadata, model, str(version), as_json=True)
        for tensor in (*answer["inputs"], *answer["outputs"]):
            tensor["shape"] = [int(n) for n in tensor["shape"]]  # protobuf's JSON writes int64 as text
        return dict(answer)

    def infer(self, model: str, version: int, inputs: Arrays, outputs: list[str]) -> Arrays:
        """Run one request: arrays [n, *dims] by input name to arrays by output name; raises ServerError."""
        tensors = []
        for name, array in inputs.items():
            tensor = self._module.InferInput(name, list(array.shape), _NAMES[array.dtype.name])
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        wanted = [self._module.InferRequestedOutput(name) for name in outputs]
        answer = self._call(self._client.infer, model, tensors, str(version), wanted)
        arrays = {name: answer.as_numpy(name) for name in outputs}
        for name, array in arrays.items():
            if array is None:
                raise ServerError(f"the answer has no output {name}")
        return arrays

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        if self.protocol == "grpc":
            kwargs["client_timeout"] = self._timeout
        try:
            return function(*args, **kwargs)
        except InferenceServerException as e:
            # gRPC reports a server that is not there with a status too; only an answer is a refusal.
            status = str(e.status() or "")
            gone = "UNAVAILABLE" in status or "DEADLINE" in status
            raise ServerError(
                f"{self.protocol} {self.address}: {e.message()}", refused=not gone
            ) from e
        except Exception as e:
            # gevent and geventhttpclient raise OSErrors, timeouts and SSL errors of their own kinds.
            raise ServerError(
                f"{self.protocol} {self.address}: {type(e).__name__}: {e}",
                remedy="is the server up? ./scripts/status",
            ) from e
