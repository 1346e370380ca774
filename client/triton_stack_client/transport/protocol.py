"""Requests to Triton over HTTP or gRPC, through tritonclient; arrays travel as binary.

``Connection`` blocks, ``AsyncConnection`` is for asyncio; both stay open and are used for every
request. Neither retries: ``model.py`` does, where it is safe.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

import numpy as np

from triton_stack_client.errors import ClientError, ServerError
from triton_stack_client.transport import direct
from triton_stack_client.transport.dlpack import GpuArray

Arrays = dict[str, np.ndarray]
Given = np.ndarray | GpuArray  # an input, as it is sent
PROTOCOLS = ("http", "grpc")
# The v2 protocol's names of NumPy's types (KServe predict protocol, "Tensor Data Types").
NAMES = {"float16": "FP16", "float32": "FP32", "uint8": "UINT8", "int32": "INT32", "float64": "FP64"}
# A server that comes back is found within a second; gRPC's own back-off grows to two minutes.
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    direct.GRPC_OPTION,
]
# What Triton answers while it loads, swaps or shuts down, where the status alone does not tell
# (2.28 answers 400 to nearly everything over HTTP).
_PASSING = ("has no available versions", "is not ready", "exiting", "in-flight", "unloading")


class Memory(Protocol):
    """Memory that the server can open: in /dev/shm by the region's name, on a GPU by ``handle``."""

    kind: str  # "system" or "cuda"
    handle: bytes
    device: int  # the GPU's number in the server


class Region(Protocol):
    """Shared memory that has a name on the server (slot.py, cuda_memory.py)."""

    region: str
    size: int

    @property
    def memory(self) -> Memory:
        """Where it is."""


class Slot(Protocol):
    """Shared memory for one request's tensors (slot.py)."""

    into: Mapping[str, Any]

    def lend(
        self, module: Any, inputs: Mapping[str, Given], outputs: list[str]
    ) -> tuple[list[Any], list[Any]]:
        """Copy the inputs in; tritonclient's inputs and requested outputs that point there."""

    def take(self, answer: Any, name: str) -> np.ndarray:
        """A copy of an output of the answer."""


class Connection:
    """A blocking connection. Over HTTP it belongs to one thread (tritonclient's rule).

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
        self.timeout = timeout
        self._module = _load(protocol, "")
        if protocol == "http":
            self._client = self._module.InferenceServerClient(
                address, connection_timeout=timeout, network_timeout=timeout
            )
        else:
            self._client = self._module.InferenceServerClient(address, channel_args=_CHANNEL)

    def live(self) -> bool:
        """Whether the server answers at all."""
        return bool(self._call("is_server_live"))

    def ready(self, model: str, version: int | None = None) -> bool:
        """Whether that version of the model answers (any, without a version)."""
        return bool(self._call("is_model_ready", model, _text(version)))

    def server(self) -> dict[str, Any]:
        """The server's name, version and extensions; raises ServerError."""
        return dict(self._call("get_server_metadata", **self._json()))

    def metadata(self, model: str, version: int | None = None) -> dict[str, Any]:
        """The server's own account of the model's interface, in HTTP's form; raises ServerError."""
        return _plain_metadata(self._call("get_model_metadata", model, _text(version), **self._json()))

    def config(self, model: str, version: int | None = None) -> dict[str, Any]:
        """The model's configuration as the server uses it, in HTTP's form; raises ServerError."""
        return _plain_config(self._call("get_model_config", model, _text(version), **self._json()))

    def index(self) -> list[dict[str, Any]]:
        """The repository index: name, version, state and reason of each model version; raises ServerError."""
        answer = self._call("get_model_repository_index", **self._json())
        return list(answer.get("models", []) if isinstance(answer, dict) else answer)

    def statistics(self, model: str, version: int | None = None) -> dict[str, Any]:
        """The server's counters and durations of a model version; raises ServerError."""
        answer = self._call("get_inference_statistics", model, _text(version), **self._json())
        return dict(answer["model_stats"][0])

    def infer(
        self,
        model: str,
        version: int | None,
        inputs: Mapping[str, Given],
        outputs: list[str],
        *,
        timeout: float | None = None,
        slot: Slot | None = None,
    ) -> Arrays:
        """Run one request: arrays [n, *dims] by input name to arrays by output name.

        ``timeout`` replaces the connection's own, over gRPC. Raises ServerError.
        """
        tensors, wanted = _request(self._module, inputs, outputs, slot)
        answer = self._call("infer", model, tensors, _text(version), wanted, timeout=timeout)
        return _arrays(answer, outputs, slot)

    def classes(self, model: str, inputs: Mapping[str, np.ndarray], output: str, count: int) -> list[str]:
        """Triton's classification of the first sample: ``count`` times "score:class:label"."""
        tensors, _ = _request(self._module, inputs, [], None)
        wanted = [self._module.InferRequestedOutput(output, class_count=count)]
        answer = self._call("infer", model, tensors, "", wanted).as_numpy(output)
        if answer is None or answer.ndim != 2:
            raise ServerError(f"{self.protocol} {self.address}: does not classify {model}'s output {output}")
        return [text.decode("utf-8", "replace") for text in answer[0]]

    def register(self, region: Region) -> None:
        """Make shared memory known to the server; raises ServerError."""
        function, *args = _registration(region)
        self._call(function, *args)

    def unregister(self, region: str, kind: str) -> None:
        """The opposite; no error when the server does not know it. Raises ServerError.

        Args:
            kind: "system" or "cuda".
        """
        self._call(f"unregister_{kind}_shared_memory", region)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _json(self) -> dict[str, bool]:
        return {"as_json": True} if self.protocol == "grpc" else {}

    def _call(self, function: str, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any:
        if self.protocol == "grpc":
            kwargs["client_timeout"] = timeout or self.timeout
        try:
            return getattr(self._client, function)(*args, **kwargs)
        except Exception as e:
            raise _error(self.protocol, self.address, e) from e


class AsyncConnection:
    """The same for asyncio; made and used within one running event loop."""

    def __init__(self, protocol: str, address: str, timeout: float) -> None:
        self.protocol = protocol
        self.address = address
        self.timeout = timeout
        self._module = _load(protocol, ".aio")
        if protocol == "http":
            self._client = self._module.InferenceServerClient(address, conn_timeout=timeout)
        else:
            self._client = self._module.InferenceServerClient(address, channel_args=_CHANNEL)

    async def metadata(self, model: str, version: int | None = None) -> dict[str, Any]:
        """See ``Connection.metadata``."""
        call = self._client.get_model_metadata(model, _text(version), **self._json())
        return _plain_metadata(await self._await(call))

    async def config(self, model: str, version: int | None = None) -> dict[str, Any]:
        """See ``Connection.config``."""
        call = self._client.get_model_config(model, _text(version), **self._json())
        return _plain_config(await self._await(call))

    async def infer(
        self,
        model: str,
        version: int | None,
        inputs: Mapping[str, Given],
        outputs: list[str],
        *,
        timeout: float | None = None,
        slot: Slot | None = None,
    ) -> Arrays:
        """See ``Connection.infer``."""
        tensors, wanted = _request(self._module, inputs, outputs, slot)
        call = self._client.infer(model, tensors, _text(version), wanted)
        return _arrays(await self._await(call, timeout), outputs, slot)

    async def server(self) -> dict[str, Any]:
        """See ``Connection.server``."""
        return dict(await self._await(self._client.get_server_metadata(**self._json())))

    async def register(self, region: Region) -> None:
        """See ``Connection.register``."""
        function, *args = _registration(region)
        await self._await(getattr(self._client, function)(*args))

    async def unregister(self, region: str, kind: str) -> None:
        """See ``Connection.unregister``."""
        await self._await(getattr(self._client, f"unregister_{kind}_shared_memory")(region))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    def _json(self) -> dict[str, bool]:
        return {"as_json": True} if self.protocol == "grpc" else {}

    async def _await(self, call: Awaitable[Any], timeout: float | None = None) -> Any:
        try:
            return await asyncio.wait_for(call, timeout or self.timeout)
        except Exception as e:
            raise _error(self.protocol, self.address, e) from e


def _load(protocol: str, kind: str) -> Any:
    if protocol not in PROTOCOLS:
        raise ClientError(f'protocol "{protocol}": it is one of {", ".join(PROTOCOLS)}')
    try:
        return importlib.import_module(f"tritonclient.{protocol}{kind}")
    except (ImportError, RuntimeError) as e:  # tritonclient turns a missing dependency into RuntimeError
        needs = "aiohttp" if kind and protocol == "http" else f"tritonclient[{protocol}]"
        raise ClientError(
            f"tritonclient cannot be imported for {protocol} ({needs}): {e}",
            remedy=f'pip install "{needs}"',
        ) from e


def _text(version: int | None) -> str:
    return "" if version is None else str(version)


def _registration(region: Region) -> tuple[Any, ...]:
    """tritonclient's function that registers a region, and its arguments."""
    if region.memory.kind == "system":
        return "register_system_shared_memory", region.region, f"/{region.region}", region.size
    handle = base64.b64encode(region.memory.handle).decode("ascii")
    return "register_cuda_shared_memory", region.region, handle, region.memory.device, region.size


def _request(
    module: Any, inputs: Mapping[str, Given], outputs: list[str], slot: Slot | None
) -> tuple[list[Any], list[Any]]:
    if slot is not None:
        return slot.lend(module, inputs, outputs)
    tensors = []
    for name, array in inputs.items():
        if not isinstance(array, np.ndarray):
            raise ServerError(
                f"input {name} lies on a GPU, and its memory cannot be shared with the server now"
            )
        tensor = module.InferInput(name, list(array.shape), NAMES[array.dtype.name])
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    return tensors, [module.InferRequestedOutput(name) for name in outputs]


def _arrays(answer: Any, outputs: list[str], slot: Slot | None) -> Arrays:
    wanted = [name for name in outputs if slot is None or name not in slot.into]
    arrays = {name: slot.take(answer, name) if slot else answer.as_numpy(name) for name in wanted}
    for name, array in arrays.items():
        if array is None:
            raise ServerError(f"the answer has no output {name}")
    return arrays


def _plain_metadata(answer: Any) -> dict[str, Any]:
    for tensor in (*answer["inputs"], *answer["outputs"]):
        tensor["shape"] = [int(n) for n in tensor["shape"]]  # protobuf's JSON writes int64 as text
    return dict(answer)


def _plain_config(answer: Any) -> dict[str, Any]:
    return dict(answer.get("config", answer))  # gRPC wraps it


def _error(protocol: str, address: str, e: Exception) -> ServerError:
    from tritonclient.utils import InferenceServerException

    if isinstance(e, InferenceServerException):
        # gRPC reports a server that is not there with a status too; only an answer is a refusal.
        message, status = str(e.message()), str(e.status() or "")
        gone = "UNAVAILABLE" in status or "DEADLINE" in status or "CANCELLED" in status
        passing = "UNAVAILABLE" in status or status == "503" or any(p in message for p in _PASSING)
        return ServerError(
            f"{protocol} {address}: {message}",
            remedy="is the server up, and is this its address? ./scripts/status" if gone else "",
            refused=not gone,
            retriable=passing,
        )
    if isinstance(e, TimeoutError | asyncio.TimeoutError):
        return ServerError(
            f"{protocol} {address}: no answer in time", remedy="is the server busy? ./scripts/status"
        )
    # gevent, geventhttpclient and aiohttp raise OSErrors and SSL errors of their own kinds.
    return ServerError(
        f"{protocol} {address}: {type(e).__name__}: {e}",
        remedy="is the server up, and is this its address? ./scripts/status",
        retriable=True,
    )
