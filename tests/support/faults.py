"""A disk that fails, or a process that dies, at the n-th system call of a piece of code under test."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any
from unittest import mock

_NEW = {"open to write", "write", "mkdir", "symlink"}  # what needs space or a new entry
_CHANGE = {*_NEW, "rename", "replace", "unlink", "rmdir", "utime", "ftruncate"}
_READ = {"open", "stat", "lstat", "readlink", "listdir", "scandir"}
# Which calls an error can hit: a full disk still renames, one that is read-only still reads.
HITS = {
    errno.ENOSPC: _NEW,
    errno.EROFS: _CHANGE,
    errno.EACCES: {*_CHANGE, "open"},
    errno.EIO: {*_CHANGE, *_READ, "fsync"},
}
_CALLS = sorted((_CHANGE | _READ | {"fsync"}) - {"open to write", "open"})


class Crash(BaseException):
    """The process dies here."""


class Faults:
    """Within the context, the ``call``-th of the calls that it can hit fails.

    Args:
        code: an errno; None to die there, after which nothing happens any more.
        lasting: all calls after it that it can hit fail too.

    Attributes:
        struck: whether it came to that.
        links: what each symbolic link that was moved into place holds, in order.
    """

    def __init__(self, code: int | None, call: int, *, lasting: bool = False) -> None:
        self._code = code
        self._left = call
        self._lasting = lasting
        self._patches: list[Any] = []
        self._readlink = os.readlink  # itself, not what stands in its place meanwhile
        self.struck = False
        self.links: list[str] = []

    def __enter__(self) -> Faults:
        self._patches = [mock.patch.object(os, name, self._wrap(name, getattr(os, name))) for name in _CALLS]
        self._patches.append(mock.patch.object(os, "open", self._wrap_os_open(os.open)))
        self._patches.append(mock.patch.object(io, "open", self._wrap_open(io.open)))
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        for patch in self._patches:
            patch.stop()
        return kind is Crash

    def hit(self, name: str) -> None:
        """Fail here, if it is time."""
        if self._code is None:
            if name not in _CHANGE and name != "fsync":
                return  # dying while reading is dying before the next change
        elif name not in HITS[self._code]:
            return
        if self._left > 0:
            self._left -= 1
            return
        if self.struck and not (self._lasting or self._code is None):
            return
        self.struck = True
        if self._code is None:
            raise Crash
        raise OSError(self._code, os.strerror(self._code))

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.hit(name)
            result = real(*args, **kwargs)
            if name == "replace":
                with contextlib.suppress(OSError):  # no link
                    self.links.append(self._readlink(args[1]))
            return result

        return call

    def _wrap_os_open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
            self.hit("open to write" if flags & (os.O_WRONLY | os.O_RDWR) else "open")
            return real(path, flags, *args, **kwargs)

        return call

    def _wrap_open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            writes = any(letter in mode for letter in "wax+")
            # A full disk takes a file that is there already.
            self.hit("open" if not writes or ("a" in mode and Path(file).exists()) else "open to write")
            opened = real(file, mode, *args, **kwargs)
            return _Writer(opened, self) if writes else opened

        return call


class _Writer:
    """A file whose writes are calls that can fail."""

    def __init__(self, file: Any, faults: Faults) -> None:
        self._file = file
        self._faults = faults

    def write(self, data: Any) -> Any:
        self._faults.hit("write")
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
