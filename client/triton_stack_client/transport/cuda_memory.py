"""GPU memory that client and server share: both hold the same allocation, by CUDA's IPC handles."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from triton_stack_client.errors import ClientError, ContractError
from triton_stack_client.transport import cuda_driver, direct, dlpack, regions
from triton_stack_client.transport.address import Address
from triton_stack_client.transport.cuda_driver import Context, CudaError
from triton_stack_client.transport.dlpack import ForeignArray, GpuArray

# A handle opens the whole block that an allocation was cut from, so that nothing else of ours may lie in it.
# The driver's blocks are of this size.
_BLOCK = 2 << 20
_METRICS_SECONDS = 1.0
_UUID = re.compile(r'gpu_uuid="(GPU-[0-9a-f-]{36})"')
# Memory that the server may still use when the client closes: it must not be freed before the server has
# closed its side, which the guard sees to. It goes with this process.
_left: list[CudaMemory] = []


class CudaMemory:
    """An allocation of this process, which a server can open by ``handle``.

    Args:
        gpu: where it lies.
        device: the number of that GPU in the server.
        size: bytes.

    Raises:
        CudaError: there is no room, or this driver shares no memory (WSL, some vGPUs).
    """

    kind = "cuda"

    def __init__(self, gpu: Context, device: int, size: int) -> None:
        self.gpu = gpu
        self.device = device
        self.address = 0
        self.address = gpu.allocate(-(-size // _BLOCK) * _BLOCK)
        self.handle = gpu.handle(self.address)

    def write(self, start: int, array: np.ndarray | GpuArray) -> None:
        """Begin to copy in an array, of this machine's memory or of the same GPU's."""
        if isinstance(array, ForeignArray):
            self.gpu.copy(self.address + start, array.address, array.nbytes)
        else:
            assert isinstance(array, np.ndarray)
            self.gpu.upload(self.address + start, array)

    def settle(self) -> None:
        """Wait until all is written: the server is another process, which no stream of ours holds up."""
        self.gpu.settle()

    def read(self, start: int, dtype: np.dtype[Any], count: int) -> np.ndarray:
        """A copy of ``count`` values, in this machine's memory."""
        array = np.empty(count, dtype)
        self.gpu.download(self.address + start, array)
        return array

    def remove(self, *, registered: bool) -> None:
        """Forget it. It is freed when nobody here uses it any more; while the server has it open, never."""
        if registered:
            _left.append(self)

    def __del__(self) -> None:
        if self.address:
            with suppress(CudaError, TypeError):  # TypeError: at the interpreter's end, half of it is gone
                self.gpu.free(self.address)


class DeviceArray(GpuArray):
    """An array in GPU memory that the server has open too: what is written to it does not travel at all.

    ``Model.device_array`` makes it. Frameworks use its memory through DLPack or
    ``__cuda_array_interface__``: ``torch.from_dlpack(array)``, ``cupy.from_dlpack(array)``.

    Attributes:
        region: its name on the server.
        size: bytes.
        registered: whether the server has it registered, as far as we know.
        in_doubt: whether its last request ended without an answer.
    """

    def __init__(self, gpu: Context, device: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self.region = regions.name()
        self.size = self.nbytes
        self.registered = False
        self.in_doubt = False
        self.memory = CudaMemory(gpu, device, self.size)

    def numpy(self) -> np.ndarray:
        """A copy of the values, in this machine's memory."""
        self.memory.gpu.wait_for_all()
        return self.memory.read(0, self.dtype, int(np.prod(self.shape))).reshape(self.shape)

    def fill(self, array: np.ndarray) -> None:
        """Copy the values of an array of the same shape and dtype in; raises ContractError."""
        if array.shape != self.shape or array.dtype != self.dtype:
            raise ContractError(
                f"this is {self.dtype} {list(self.shape)}; given was {array.dtype} {list(array.shape)}"
            )
        self.memory.write(0, np.ascontiguousarray(array))
        self.memory.settle()

    def __len__(self) -> int:
        return self.shape[0]

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self.memory.gpu.ordinal

    def __dlpack__(self, *, stream: Any = None, **options: Any) -> Any:
        """DLPack's capsule. Nothing of ours is under way when somebody gets it, so no stream has to wait."""
        del stream
        wanted = options.get("dl_device")
        if options.get("copy") or wanted not in (None, self.__dlpack_device__()):
            raise BufferError("this memory is shared as it is: neither copied, nor on another device")
        return dlpack.capsule(
            self.memory, self.memory.address, self.shape, self.dtype, self.memory.gpu.ordinal
        )

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.memory.address, False),
            "strides": None,
            "stream": None,
        }


def shared_gpu(where: Address, *, sure: bool) -> tuple[int, int]:
    """The GPU that this process and the server see: its number here, and there.

    The server's metrics name its GPUs by UUID, on METRICS_PORT of its host.

    Args:
        sure: refuse where the metrics do not say so. Otherwise GPU 0 of both is tried, and the server refuses
            a handle that it cannot open.

    Raises:
        CudaError: there is none, in words.
    """
    ours = cuda_driver.driver().gpus()
    theirs = _server_gpus(where.host)
    if not theirs:
        if sure or not ours:
            raise CudaError("the server's metrics name no GPU" if ours else "the driver finds no GPU")
        return 0, 0
    for ordinal, uuid in enumerate(ours):
        if uuid in theirs:
            # Of several, the metrics do not say which is which number: both sides are taken to count alike.
            return ordinal, 0 if len(theirs) == 1 else ordinal
    raise CudaError(
        f"the server uses {', '.join(theirs)}, and this process sees {', '.join(ours) or 'no GPU'}"
    )


def _server_gpus(host: str) -> list[str]:
    port = os.environ.get("METRICS_PORT") or "8002"
    try:
        with direct.open_url(f"http://{host}:{port}/metrics", _METRICS_SECONDS) as answer:
            text = answer.read().decode("utf-8", "replace")
    except OSError:
        return []
    return list(dict.fromkeys(_UUID.findall(text)))


def fit(into: Mapping[str, DeviceArray], shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
    """Check arrays that outputs shall go to; raises ContractError."""
    for name, array in into.items():
        if name not in shapes:
            raise ContractError(f'there is no output "{name}"', expected=f"one of {', '.join(shapes)}")
        shape, dtype = shapes[name]
        found: object = array if not isinstance(array, DeviceArray) else (array.shape, array.dtype)
        if found != (shape, dtype):
            given = _words(*found) if isinstance(found, tuple) else type(array).__name__
            raise ContractError(
                f"output {name} will be {_words(shape, dtype)}; given for it was {given}",
                remedy=f'model.device_array("{name}", {shape[0]}) makes one that fits',
            )


def _words(shape: Sequence[int], dtype: np.dtype[Any]) -> str:
    return f"{dtype} {list(shape)}"


def unavailable(reason: object) -> ClientError:
    """The error where GPU memory was asked for and cannot be shared."""
    return ClientError(
        f"GPU memory cannot be shared with the server: {reason}", remedy="--shared-memory auto, system or off"
    )
