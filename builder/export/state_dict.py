"""A PyTorch state dict read without PyTorch: its tensors as NumPy arrays by name.

Both of PyTorch's file formats are read: the zip archive of 1.6 and later, and the row of pickles before it. A
pickle can name any code to run; the reader here knows the few names that a state dict needs, and refuses all
others.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Tuple

import numpy as np

from builder.errors import SourceError

_MAGIC = 0x1950A86A20F9469CFC6C  # PyTorch's own, of the older format
_PROTOCOL = 1001
_MOST = 2**31  # elements of a tensor; with a stride of 0 it may be larger than the file
_DTYPES = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
    "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """A storage's type, in place of PyTorch's class of that name."""

    dtype: np.dtype[Any]


@dataclass(frozen=True)
class _Storage:
    """A storage that a pickle refers to: ``count`` elements, read when all that came before it is."""

    key: str
    kind: _Kind
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    size: Tuple[int, ...]
    stride: Tuple[int, ...]

    def of(self, elements: np.ndarray) -> np.ndarray:
        """A copy of the elements in the tensor's own order; raises ValueError where it leaves the storage."""
        plain = all(isinstance(n, int) and n >= 0 for n in (self.offset, *self.size, *self.stride))
        if not plain or len(self.size) != len(self.stride) or math.prod(self.size) > _MOST:
            raise ValueError(f"a tensor of size {self.size} and stride {self.stride}")
        if 0 in self.size:
            return np.zeros(self.size, elements.dtype)
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride))
        if last >= len(elements):
            raise ValueError(f"a tensor reaches to element {last} of a storage of {len(elements)}")
        steps = [step * elements.itemsize for step in self.stride]
        view = np.lib.stride_tricks.as_strided(elements[self.offset :], self.size, steps)
        return np.array(view, order="C")


class _Unpickler(pickle.Unpickler):
    """Knows what a state dict is made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """Our stand-in for one of the names allowed; raises UnpicklingError for any other."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if module == "torch" and name in _DTYPES:
            return _Kind(np.dtype(_DTYPES[name]))
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of a state dict")

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage by what the pickle says of it."""
        word, kind, key, _, count, *_ = pid
        if word != "storage" or not isinstance(kind, _Kind) or not isinstance(count, int) or count < 0:
            raise pickle.UnpicklingError(f"it refers to {word}, which is no storage")
        return _Storage(str(key), kind, count)


def _tensor(storage: _Storage, offset: int, size: Any, stride: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, offset, tuple(size), tuple(stride))


def _parameter(data: _Tensor, *_: Any) -> _Tensor:
    return data


def read(path: Path) -> Dict[str, np.ndarray]:
    """The tensors in a file that ``torch.save`` wrote of a state dict; raises SourceError for any other."""
    try:
        if zipfile.is_zipfile(path):
            return _of_zip(path)
        with path.open("rb") as f:
            return _of_row(f)
    except Exception as e:  # pickle, zipfile and NumPy raise whatever a damaged file makes them run into
        raise SourceError(
            f"{path}: cannot be read as a PyTorch state dict: {e or type(e).__name__}",
            expected="what torch.save(model.state_dict(), FILE) writes",
        ) from e


def _of_zip(path: Path) -> Dict[str, np.ndarray]:
    """archive/data.pkl, and archive/data/KEY for each storage."""
    with zipfile.ZipFile(path) as z:
        [index] = [name for name in z.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
        root = index[: -len("data.pkl")]
        if f"{root}byteorder" in z.namelist() and z.read(f"{root}byteorder") != b"little":
            raise ValueError("it was written on a big-endian machine")
        found = _Unpickler(io.BytesIO(z.read(index))).load()

        def storage(wanted: _Storage) -> np.ndarray:
            return np.frombuffer(z.read(f"{root}data/{wanted.key}"), wanted.kind.dtype)

        return _arrays(found, storage)


def _of_row(f: BinaryIO) -> Dict[str, np.ndarray]:
    """Five pickles (magic, protocol, machine, the dict, the storages' keys), then the storages in order."""
    magic, protocol, machine = (_Unpickler(f).load() for _ in range(3))
    if (magic, protocol) != (_MAGIC, _PROTOCOL) or not machine["little_endian"]:
        raise ValueError("it is of another format, or from a big-endian machine")
    found, keys = _Unpickler(f).load(), _Unpickler(f).load()
    kinds = {t.storage.key: t.storage.kind for t in _tensors(found).values()}
    storages = {}
    for key in keys:
        count = int.from_bytes(f.read(8), "little")
        dtype = kinds[key].dtype
        content = f.read(count * dtype.itemsize)
        if len(content) != count * dtype.itemsize:
            raise ValueError("it is cut short")
        storages[key] = np.frombuffer(content, dtype)
    return _arrays(found, lambda wanted: storages[wanted.key])


def _arrays(found: Any, storage: Callable[[_Storage], np.ndarray]) -> Dict[str, np.ndarray]:
    arrays = {}
    for name, tensor in _tensors(found).items():
        elements = storage(tensor.storage)
        if len(elements) != tensor.storage.count:
            raise ValueError(f"{name} has {len(elements)} elements and should have {tensor.storage.count}")
        arrays[name] = tensor.of(elements)
    return arrays


def _tensors(found: Any) -> Dict[str, _Tensor]:
    """The tensors by name, where what was unpickled is a state dict."""
    if not isinstance(found, dict) or not found:
        raise ValueError("it holds no tensors by name")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, _Tensor):
            raise pickle.UnpicklingError(f"{name!r} is no tensor")
    return dict(found)
