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
from typing import Iterator, Optional, TextIO

from ops.errors import OpsError
from ops.settings import Settings


@contextlib.contextmanager
def held(settings: Settings, what: str) -> Iterator[None]:
    """Hold the operations' lock of this models volume (natively) or Compose project.

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
        holder = _take(f)
        if holder is not None:
            raise OpsError(
                f"another operation is under way: {holder}", remedy="wait for it to end, and run this again"
            )
        since = datetime.now(timezone.utc).isoformat(timespec="seconds")
        line = f"{what} by {_user()}, process {os.getpid()}, since {since}\n"
        # A courtesy to the others, which a full disk may refuse. Unbuffered: nothing is left to fail later.
        with contextlib.suppress(OSError):
            os.ftruncate(f.fileno(), 0)
            os.write(f.fileno(), line.encode())
        yield
        with contextlib.suppress(OSError):
            os.ftruncate(f.fileno(), 0)


def _take(f: TextIO) -> Optional[str]:
    """Lock the file; returns None, or who holds it."""
    deadline = time.monotonic() + 1  # a holder writes its name right after it has the lock
    while True:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            f.seek(0)
            holder = f.read().strip()
            if holder or time.monotonic() > deadline:
                return holder or "one that has not said who it is"
            time.sleep(0.02)
        else:
            return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
