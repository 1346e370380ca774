"""Memory of /dev/shm that client and server share: both map the same file."""

from __future__ import annotations

import fcntl
import functools
import mmap
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from triton_stack_client.errors import ServerError
from triton_stack_client.transport import regions
from triton_stack_client.transport.protocol import Given

FOLDER = Path("/dev/shm")  # noqa: S108  (Linux's own place, and the one Triton opens)
_NEW_SECONDS = 60  # a file this young may have been made a moment before its owner locks it


class SystemMemory:
    """A file in /dev/shm, mapped; ``device`` and ``handle`` mean nothing here. Raises OSError.

    It stays locked while its owner lives, so that others know what a crash has left.
    """

    kind = "system"
    handle = b""
    device = 0

    def __init__(self, region: str, size: int) -> None:
        remove_left_behind(FOLDER)
        self._path = FOLDER / region
        fd = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # it is the map's too, which holds a duplicate of fd
            os.posix_fallocate(fd, 0, size)  # a full /dev/shm is an error now, not a SIGBUS later
            self._map = mmap.mmap(fd, size)
        except OSError:
            self.remove(registered=False)
            raise
        finally:
            os.close(fd)

    def write(self, start: int, array: Given) -> None:
        """Copy an array in."""
        if not isinstance(array, np.ndarray):
            raise ServerError("an input lies on a GPU, and its memory cannot be shared with the server now")
        np.frombuffer(self._map, array.dtype, array.size, start).reshape(array.shape)[...] = array

    def settle(self) -> None:
        """Nothing: what is written is there."""

    def read(self, start: int, dtype: np.dtype[Any], count: int) -> np.ndarray:
        """A copy of ``count`` values."""
        return np.array(np.frombuffer(self._map, dtype, count, start))

    def remove(self, *, registered: bool) -> None:
        """Remove the file; the memory goes when the last one has unmapped it."""
        del registered
        self._path.unlink(missing_ok=True)


@functools.cache  # once in a process is enough
def remove_left_behind(folder: Path) -> None:
    """Remove the files of clients that were killed together with their guards (``region_guard.py``).

    A client's number says nothing, since containers may share /dev/shm: what nobody has locked is nobody's.
    """
    for path in folder.glob(regions.PATTERN):
        if not regions.is_name(path.name):
            continue
        with suppress(OSError):  # another user's, in use (BlockingIOError), or gone by now
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - os.fstat(fd).st_ctime > _NEW_SECONDS:
                    path.unlink()
            finally:
                os.close(fd)
