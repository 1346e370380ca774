"""A FAKE libcuda.so.1: a GPU whose memory is this machine's, in files of /dev/shm.

An IPC handle holds the file's name, so that "another process" can open the memory: a test registers it with a
real Triton as system memory. Every function answers with a CUresult, as the driver's do.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np

UUID = bytes(range(16))
UUID_TEXT = "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
FOLDER = Path("/dev/shm")  # noqa: S108  (where a Triton looks)
OUT_OF_MEMORY, INVALID = 2, 1


class FakeCuda:
    """The functions that the client calls; ``blocks`` are the allocations that were not freed."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.blocks: dict[int, tuple[str, mmap.mmap]] = {}
        self.calls: list[str] = []
        self.unsettled = False  # whether a copy was begun and not waited for
        self._made = 0

    def __getattr__(self, name: str) -> Any:
        def answer(*_: Any) -> int:
            self.calls.append(name)
            return 0

        return answer

    def cuGetErrorString(self, code: Any, text: Any) -> int:  # noqa: N802
        text._obj.value = {OUT_OF_MEMORY: b"out of memory"}.get(code.value, b"invalid argument")
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDeviceGetUuid(self, raw: Any, _: Any) -> int:  # noqa: N802
        raw._obj[:] = list(UUID)
        return 0

    def cuStreamCreate(self, stream: Any, _: Any) -> int:  # noqa: N802
        stream._obj.value = 0x5000
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:  # noqa: N802
        if size.value > self.room:
            return OUT_OF_MEMORY
        self._made += 1
        name = f"fake-cuda-{os.getpid()}-{id(self):x}-{self._made}"
        with (FOLDER / name).open("w+b") as file:
            file.truncate(size.value)
            memory = mmap.mmap(file.fileno(), size.value)
        where = np.frombuffer(memory, np.uint8).ctypes.data
        self.blocks[where] = (name, memory)
        address._obj.value = where
        return 0

    def cuMemFree_v2(self, address: Any) -> int:  # noqa: N802
        name, _ = self.blocks.pop(address.value)
        (FOLDER / name).unlink()
        return 0

    def cuIpcGetMemHandle(self, handle: Any, address: Any) -> int:  # noqa: N802
        name = self.blocks[address.value][0].encode()
        ctypes.memmove(ctypes.addressof(handle._obj), name, len(name))
        return 0

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, _: Any) -> int:  # noqa: N802
        ctypes.memmove(to.value, source.value, size.value)
        self.calls.append("upload")
        self.unsettled = True
        return 0

    def cuMemcpyDtoDAsync_v2(self, to: Any, source: Any, size: Any, _: Any) -> int:  # noqa: N802
        ctypes.memmove(to.value, source.value, size.value)
        self.calls.append("copy")
        self.unsettled = True
        return 0

    def cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, _: Any) -> int:  # noqa: N802
        ctypes.memmove(to.value, source.value, size.value)
        self.calls.append("download")
        return 0

    def cuStreamSynchronize(self, _: Any) -> int:  # noqa: N802
        self.unsettled = False
        return 0

    def cuPointerGetAttribute(self, value: Any, attribute: Any, _: Any) -> int:  # noqa: N802
        assert attribute.value == 9
        value._obj.value = 0
        return 0
