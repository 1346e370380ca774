"""State dicts as ``torch.save`` writes them, in both of its formats, written without PyTorch.

PyTorch's own names are those of stand-ins here: a pickle holds a class's or function's name alone.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGES = {"f4": "FloatStorage", "f8": "DoubleStorage", "f2": "HalfStorage", "i8": "LongStorage"}


class Storage:
    """Elements that tensors are views of."""

    def __init__(self, key: str, elements: np.ndarray) -> None:
        self.key, self.elements = key, elements


class Tensor:
    """A view: offset and strides in elements."""

    def __init__(
        self, storage: Storage, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0
    ) -> None:
        self.storage, self.size, self.stride, self.offset = storage, size, stride, offset

    def __reduce__(self) -> Any:
        made = sys.modules["torch._utils"]._rebuild_tensor_v2  # type: ignore[attr-defined]
        return made, (self.storage, self.offset, self.size, self.stride, False, OrderedDict())


class _Pickler(pickle.Pickler):
    def persistent_id(self, thing: object) -> Any:
        if not isinstance(thing, Storage):
            return None
        kind = getattr(sys.modules["torch"], STORAGES[thing.elements.dtype.str[1:]])
        return ("storage", kind, thing.key, "cpu", len(thing.elements))


class _OldPickler(_Pickler):
    """The older format names a view of a storage as well: none."""

    def persistent_id(self, thing: object) -> Any:
        found = super().persistent_id(thing)
        return found and (*found, None)


def dumped(state: object, pickler: type[pickle.Pickler] = _Pickler) -> bytes:
    """The pickle of a state dict."""
    buffer = io.BytesIO()
    with _torch():
        pickler(buffer, 2).dump(state)
    return buffer.getvalue()


def write_zip(path: Path, state: dict[str, Tensor], *, byteorder: str = "little") -> None:
    """As PyTorch 1.6 and later write it."""
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("archive/data.pkl", dumped(OrderedDict(state)))
        z.writestr("archive/byteorder", byteorder)
        for storage in _storages(state):
            z.writestr(f"archive/data/{storage.key}", storage.elements.tobytes())
        z.writestr("archive/version", "3\n")


def write_old(path: Path, state: dict[str, Tensor], *, magic: int = MAGIC) -> None:
    """As PyTorch before 1.6 wrote it."""
    machine = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"int": 4}}
    storages = sorted(_storages(state), key=lambda s: s.key)
    with path.open("wb") as f:
        for part in (magic, PROTOCOL, machine):
            f.write(pickle.dumps(part, 2))
        f.write(dumped(OrderedDict(state), _OldPickler))
        f.write(pickle.dumps([s.key for s in storages], 2))
        for storage in storages:
            f.write(len(storage.elements).to_bytes(8, "little") + storage.elements.tobytes())


def _storages(state: dict[str, Tensor]) -> list[Storage]:
    return list({t.storage.key: t.storage for t in state.values()}.values())


@contextmanager
def _torch() -> Iterator[None]:
    """Modules called as PyTorch's, with what a pickle of a state dict names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2() -> None: ...

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2  # type: ignore[attr-defined]
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
