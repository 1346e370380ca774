"""A server process that outlives the script that started it: started, found again, stopped.

A process number alone is not enough to find it again, since numbers are used anew: the state file also
holds the process's start time, which no other process of that number shares.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from ops.errors import OpsError
from ops.runtimes.driver import start_time

KEPT_LOGS = 3  # of the servers before this one: a crash can still be read after the start that follows it
_TAIL = 64 << 10  # bytes of the log's end that are read


class ServerProcess:
    """The native server, or a service beside it; ``folder`` holds its state (server.json), its log
    (triton.log), and the logs of those before it (triton.log.1 is the last one's)."""

    def __init__(self, folder: Path, state: str = "server.json", log: str = "triton.log") -> None:
        self._state = folder / state
        self.log = folder / log

    def start(self, argv: List[str], env: Dict[str, str], facts: Dict[str, Any]) -> None:
        """Start ``argv`` in a session of its own and remember it, with ``facts``."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._rotate()
        with self.log.open("wb") as log:
            child = subprocess.Popen(
                argv,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        data = {"pid": child.pid, "started": start_time(child.pid), **facts}
        fresh = self._state.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
            fresh.replace(self._state)
        except OSError:  # a full disk: a server that nobody would find again must not run
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            raise

    def state(self) -> Optional[Dict[str, Any]]:
        """What was remembered of the server, if it still runs; None otherwise."""
        try:
            data = json.loads(self._state.read_text("utf-8"))
            pid = int(data["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        _reap(pid)
        started = start_time(pid)
        return data if started is not None and started == data.get("started") else None

    def stop(self, seconds: float) -> Optional[int]:
        """SIGTERM, which drains what is in flight, and SIGKILL only after ``seconds``.

        Returns the process number, or None when it was not running.

        Raises:
            OpsError: it had to be killed.
        """
        data = self.state()
        if data is None:
            return None
        pid = int(data["pid"])
        with contextlib.suppress(ProcessLookupError):  # it ended just now
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while self.state() is not None:
            if time.monotonic() > deadline:
                # The Python backend's stubs are in the same session; they end with their server.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)
                self._state.unlink(missing_ok=True)
                raise OpsError(
                    f"the server (process {pid}) did not end within {seconds:.0f} s and was killed"
                )
            time.sleep(0.1)
        self._state.unlink(missing_ok=True)
        return pid

    def log_tail(self) -> List[str]:
        """The log's last lines, whole ones; none where it cannot be read."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(0, size - _TAIL))
                lines = log.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        return lines[1:] if size > _TAIL else lines

    def crashed(self) -> bool:
        """Whether the server that was started last ended by itself: ``stop`` forgets the one that it ends."""
        return self._state.exists() and self.state() is None

    def _rotate(self) -> None:
        """Make room for a new log: triton.log becomes triton.log.1, that one triton.log.2, and so on."""
        names = [self.log, *(self.log.with_name(f"{self.log.name}.{n}") for n in range(1, KEPT_LOGS + 1))]
        for older, newer in reversed(list(zip(names[1:], names))):
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)


def _reap(pid: int) -> None:
    """Our own dead child stays a zombie, alive to the eye, until it is waited for."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
