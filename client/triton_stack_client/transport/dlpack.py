"""Arrays that lie on a GPU: others' as inputs of ours, and ours for others, by DLPack and by
``__cuda_array_interface__``, the two protocols that PyTorch, CuPy, JAX, TensorFlow and Numba speak."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from triton_stack_client.errors import ContractError

CUDA = 2  # kDLCUDA
_MANAGED = 13  # kDLCUDAManaged
# DLPack's type code and bits -> NumPy's name, of what the client speaks.
_TYPES = {(0, 32): "int32", (1, 8): "uint8", (2, 16): "float16", (2, 32): "float32", (2, 64): "float64"}
_NAME = b"dltensor"


class GpuArray:
    """What lies on a GPU: ``shape`` and ``dtype`` (NumPy's) are known, the values stay where they are."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True)
class ForeignArray(GpuArray):
    """Another library's array, contiguous; ``owner`` keeps its memory."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object


class Gpu(Protocol):
    """The GPU that an array has to lie on (cuda_driver.Context)."""

    ordinal: int
    stream: int

    def ordinal_of(self, address: int) -> int:
        """The number of the GPU that an address belongs to."""

    def wait_for_all(self) -> None:
        """Wait until all that this process does on the GPU has ended."""


def on_gpu(array: Any) -> bool:
    """Whether another library's array lies on an NVIDIA GPU."""
    if isinstance(array, np.ndarray | GpuArray):
        return False
    if hasattr(array, "__dlpack_device__"):
        return int(array.__dlpack_device__()[0]) in (CUDA, _MANAGED)
    return hasattr(array, "__cuda_array_interface__")


def foreign(name: str, array: Any, gpu: Gpu) -> ForeignArray:
    """Another library's array, as it lies on ``gpu``; what that library still computes of it is waited for.

    Raises:
        ContractError: it lies on another GPU, is not contiguous, or has a type that no model has.
    """
    if hasattr(array, "__dlpack__"):
        ordinal = int(array.__dlpack_device__()[1])
        read = _by_dlpack
    else:
        ordinal = gpu.ordinal_of(int(array.__cuda_array_interface__["data"][0]))
        read = _by_interface
    if ordinal != gpu.ordinal:
        raise ContractError(
            f"{name} lies on GPU {ordinal}, and the memory shared with the server on GPU {gpu.ordinal}",
            remedy="copy it to that GPU first",
        )
    return read(name, array, gpu)


class _Tensor(ctypes.Structure):
    """DLManagedTensor of dlpack.h: a DLTensor, and who frees it."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
    ]


# Prototypes of our own: the function objects of ctypes.pythonapi belong to everybody.
_get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)
_new = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
# Of a capsule that is being destroyed, which must get no new reference: by its address.
_dying_is_valid = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_dying_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _by_dlpack(name: str, array: Any, gpu: Gpu) -> ForeignArray:
    try:
        try:
            capsule = array.__dlpack__(stream=gpu.stream)
        except TypeError:  # it knows no streams: all of its work is waited for
            gpu.wait_for_all()
            capsule = array.__dlpack__()
        tensor = _Tensor.from_address(_get_pointer(capsule, _NAME))
    except Exception as e:  # each library refuses in its own way: BufferError, RuntimeError, ValueError
        raise ContractError(f"{name} cannot be had by DLPack: {e}") from e
    shape = tuple(tensor.shape[n] for n in range(tensor.ndim))
    kind = _TYPES.get((tensor.code, tensor.bits)) if tensor.lanes == 1 else None
    if kind is None:
        raise ContractError(
            f"{name} has DLPack's type code {tensor.code} with {tensor.bits} bits",
            expected=f"one of {', '.join(sorted(_TYPES.values()))}",
        )
    if tensor.strides:
        steps = tuple(tensor.strides[n] * (tensor.bits // 8) for n in range(tensor.ndim))
        _check_contiguous(name, shape, steps, tensor.bits // 8)
    # The capsule keeps its name, so that it frees the tensor when it goes; until then it is held here.
    return ForeignArray(
        (tensor.data or 0) + tensor.byte_offset, shape, np.dtype(kind), owner=(array, capsule)
    )


def _by_interface(name: str, array: Any, gpu: Gpu) -> ForeignArray:
    told = array.__cuda_array_interface__
    shape, dtype = tuple(map(int, told["shape"])), np.dtype(told["typestr"])
    if told.get("strides"):
        _check_contiguous(name, shape, tuple(map(int, told["strides"])), dtype.itemsize)
    gpu.wait_for_all()
    return ForeignArray(int(told["data"][0]), shape, dtype, owner=array)


def _check_contiguous(name: str, shape: tuple[int, ...], steps: tuple[int, ...], itemsize: int) -> None:
    """``steps`` in bytes."""
    expected = itemsize
    for size, step in zip(reversed(shape), reversed(steps), strict=True):
        if size != 1 and step != expected:
            raise ContractError(
                f"{name} is not contiguous: shape {list(shape)}, strides {list(steps)} bytes",
                remedy="give a contiguous copy of it",
            )
        expected *= max(size, 1)


# What was handed out and not given back, by its tensor's address: the tensor, its shape, whose memory it is.
_lent: dict[int, tuple[Any, ...]] = {}


def _give_back(address: int) -> None:
    _lent.pop(address, None)


def _destroy(capsule: int) -> None:
    """Of a capsule that nobody took: who takes one renames it, and calls ``deleter`` when done."""
    if _dying_is_valid(capsule, _NAME):
        _lent.pop(_dying_pointer(capsule, _NAME), None)


_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_GIVE_BACK, _DESTROY = _CALLBACK(_give_back), _CALLBACK(_destroy)


def capsule(owner: object, address: int, shape: tuple[int, ...], dtype: np.dtype[Any], ordinal: int) -> Any:
    """A DLPack capsule of contiguous memory on a GPU; ``owner`` lives as long as somebody holds it."""
    code, bits = next(key for key, name in _TYPES.items() if name == dtype.name)
    sizes = (ctypes.c_int64 * len(shape))(*shape)
    tensor = _Tensor(
        data=address, device_type=CUDA, device_id=ordinal, ndim=len(shape), code=code, bits=bits, lanes=1,
        shape=sizes, strides=None, byte_offset=0, manager_ctx=None,
        deleter=ctypes.cast(_GIVE_BACK, ctypes.c_void_p),
    )  # fmt: skip
    where = ctypes.addressof(tensor)
    _lent[where] = (tensor, sizes, owner)
    return _new(where, _NAME, ctypes.cast(_DESTROY, ctypes.c_void_p))
