"""NVIDIA's driver library, as far as GPU memory that two processes share needs it.

The driver API through ctypes wants nothing but the driver itself (libcuda.so.1): no CUDA toolkit, no Python
package. A GPU's *primary* context is used, which PyTorch, CuPy, JAX and TensorFlow use too, so that their
addresses are valid here and ours there.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

LIBRARY = "libcuda.so.1"
HANDLE_BYTES = 64  # CUDA_IPC_HANDLE_SIZE
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the work of the process's other streams
_DEVICE_ORDINAL = 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
_Address = ctypes.c_uint64


class CudaError(Exception):
    """The driver is not there, or refused: its own words."""


class _Handle(ctypes.Structure):
    """CUipcMemHandle, which has the layout of cudaIpcMemHandle_t. It is handed over by value."""

    _fields_ = [("reserved", ctypes.c_char * HANDLE_BYTES)]


class Driver:
    """The library, initialized.

    Args:
        library: what ctypes loaded.

    Raises:
        CudaError: the driver finds no GPU, or does not fit the kernel's.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        self.call("cuInit", ctypes.c_uint(0))

    def call(self, function: str, *args: Any) -> None:
        """Call a function of the driver; raises CudaError unless it succeeds."""
        code = int(getattr(self._library, function)(*args))
        if code:
            text = ctypes.c_char_p()
            self._library.cuGetErrorString(ctypes.c_int(code), ctypes.byref(text))
            words = (text.value or b"unknown error").decode("utf-8", "replace")
            raise CudaError(f"{function}: {words} ({code})")

    def gpus(self) -> list[str]:
        """The UUID of each GPU that this process sees, as nvidia-smi and Triton's metrics write it."""
        count = ctypes.c_int()
        self.call("cuDeviceGetCount", ctypes.byref(count))
        return [self._uuid(ordinal) for ordinal in range(count.value)]

    def _uuid(self, ordinal: int) -> str:
        device, raw = ctypes.c_int(), (ctypes.c_ubyte * 16)()
        self.call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
        self.call("cuDeviceGetUuid", ctypes.byref(raw), device)
        text = bytes(raw).hex()
        return f"GPU-{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Context:
    """One GPU: its primary context, and a stream of ours. May be used by several threads.

    Attributes:
        ordinal: the GPU's number in this process.
        stream: the stream's address, for DLPack.
    """

    def __init__(self, driver: Driver, ordinal: int) -> None:
        self._driver = driver
        self.ordinal = ordinal
        device, self._context = ctypes.c_int(), ctypes.c_void_p()
        driver.call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
        driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self._stream = ctypes.c_void_p()
        with self._current():
            driver.call("cuStreamCreate", ctypes.byref(self._stream), ctypes.c_uint(_NON_BLOCKING))
        self.stream = int(self._stream.value or 0)

    @contextmanager
    def _current(self) -> Iterator[None]:
        """Make the context this thread's, and give back what was before."""
        self._driver.call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            self._driver.call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def allocate(self, size: int) -> int:
        """The address of ``size`` bytes of this GPU's memory; raises CudaError where there is no room."""
        address = _Address()
        with self._current():
            self._driver.call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back."""
        with self._current():
            self._driver.call("cuMemFree_v2", _Address(address))

    def handle(self, address: int) -> bytes:
        """What another process on this machine opens the memory by."""
        handle = _Handle()
        with self._current():
            self._driver.call("cuIpcGetMemHandle", ctypes.byref(handle), _Address(address))
        return bytes(handle)

    def ordinal_of(self, address: int) -> int:
        """The number of the GPU that an address belongs to."""
        ordinal = ctypes.c_int()
        with self._current():
            self._driver.call(
                "cuPointerGetAttribute",
                ctypes.byref(ordinal),
                ctypes.c_int(_DEVICE_ORDINAL),
                _Address(address),
            )
        return ordinal.value

    def upload(self, address: int, array: np.ndarray) -> None:
        """Begin to copy a contiguous array to the GPU; ``settle`` waits for its end."""
        with self._current():
            self._driver.call(
                "cuMemcpyHtoDAsync_v2",
                _Address(address),
                ctypes.c_void_p(array.ctypes.data),
                ctypes.c_size_t(array.nbytes),
                self._stream,
            )

    def copy(self, address: int, source: int, size: int) -> None:
        """Begin to copy within the GPU; ``settle`` waits for its end."""
        with self._current():
            self._driver.call(
                "cuMemcpyDtoDAsync_v2",
                _Address(address),
                _Address(source),
                ctypes.c_size_t(size),
                self._stream,
            )

    def download(self, address: int, array: np.ndarray) -> None:
        """Fill a contiguous array from the GPU."""
        with self._current():
            self._driver.call(
                "cuMemcpyDtoHAsync_v2",
                ctypes.c_void_p(array.ctypes.data),
                _Address(address),
                ctypes.c_size_t(array.nbytes),
                self._stream,
            )
            self._driver.call("cuStreamSynchronize", self._stream)

    def settle(self) -> None:
        """Wait until what was begun here has ended."""
        with self._current():
            self._driver.call("cuStreamSynchronize", self._stream)

    def wait_for_all(self) -> None:
        """Wait until all that this process does on the GPU has ended, on whichever stream."""
        with self._current():
            self._driver.call("cuCtxSynchronize")


_lock = threading.Lock()


def driver() -> Driver:
    """The driver of this machine; raises CudaError where there is none."""
    with _lock:
        return _driver()


def context(ordinal: int) -> Context:
    """This process's one context of a GPU, made when first asked for and kept; raises CudaError."""
    found = driver()
    with _lock:
        return _context(found, ordinal)


@cache
def _driver() -> Driver:
    return Driver(_library())


@cache
def _context(found: Driver, ordinal: int) -> Context:
    return Context(found, ordinal)


def _library() -> Any:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as e:
        raise CudaError(f"there is no NVIDIA driver here: {e}") from e
