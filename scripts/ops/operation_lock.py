"""One operation at a time: up, redeploy, rollback and prune exclude each other.

The kernel's lock on an open file, so it ends with its holder, however that one dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import os
import time
from datetime import datetime, timezone
from typing import Callable, Iterator, Optional, TextIO

from ops import console
from ops.errors import OpsError
from ops.settings import Settings

_SET_UP = "set-up of "  # how the holder's line begins while it makes environments or images
_NEWS = 10.0  # seconds between two words on a wait


@contextlib.contextmanager
def held(settings: Settings, what: str, *, setup: Optional[Callable[[], None]] = None) -> Iterator[None]:
    """Hold the operations' lock of this models volume (natively) or Compose project.

    Args:
        setup: run first, under the lock. Who comes with a set-up of its own meanwhile needs what is being
            made: it waits until the holder is done with everything, and is not refused.

    Raises:
        OpsError: somebody else holds it; the message names them.
    """
    project = settings.docker.get("COMPOSE_PROJECT_NAME") or "default"
    path = settings.run_dir / f"operation-{project}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        f = path.open("a+", encoding="utf-8")
    except OSError as e:
        raise OpsError(
            f"{path}: cannot be written: {e.strerror}", remedy="set MODELS_DIR to a folder that can be"
        ) from e
    with f:
        holder = _take(f, patient=setup is not None)
        if holder is not None:
            raise OpsError(
                f"another operation is under way: {holder}", remedy="wait for it to end, and run this again"
            )
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        line = f"{what} by {_user()}, process {os.getpid()}, since {since}\n"
        if setup is not None:
            _write(f, _SET_UP + line)
            setup()
        _write(f, line)
        yield
        _write(f, "")


def _write(f: TextIO, line: str) -> None:
    """Say who holds the lock: a courtesy to the others, which a full disk may refuse. Unbuffered: nothing is
    left to fail later."""
    with contextlib.suppress(OSError):
        os.ftruncate(f.fileno(), 0)
        os.write(f.fileno(), line.encode())


def _take(f: TextIO, *, patient: bool) -> Optional[str]:
    """Lock the file; returns None, or who holds it. ``patient`` waits for one that is at its set-up."""
    began = told = time.monotonic()
    waits = False
    while True:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            f.seek(0)
            holder = f.read().strip()
            if patient and holder.startswith(_SET_UP) and not waits:
                waits = True
                console.progress(f"waiting for the {holder}")
            elif not waits and (holder or time.monotonic() - began > 1):  # it writes its name at once
                return holder or "one that has not said who it is"
            if waits and time.monotonic() - told > _NEWS:
                told = time.monotonic()
                console.progress(f"still waiting for the {holder or 'other'}: {told - began:.0f} s")
            time.sleep(0.02)
        else:
            return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
