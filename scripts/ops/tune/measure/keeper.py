"""Keeps a scratch server: runs it until standard input ends, then stops it and removes what it left.

A program of its own, in a session of its own, so that whatever ends ./scripts/tune (SIGKILL too, or a signal
to its whole process group) ends the server in order: standard input is a pipe that only tune holds. The first
line on it is the job as JSON: argv, log, nice, folder (removed in the end), backends (of the CPU server,
whose Python processes and shared memory may be left behind when it is killed; or null).
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
_LEFTOVERS = Path(__file__).resolve().parents[4] / "triton" / "cpu" / "leftovers.py"


def main() -> int:
    """Run it; the server's own exit code where it ended by itself."""
    job = json.loads(sys.stdin.readline())
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: over.set())
    folder = Path(job["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    os.nice(job["nice"])
    me = os.getpid()
    with Path(job["log"]).open("ab") as log:
        server = subprocess.Popen(
            job["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: _end_with(me),  # noqa: PLW1509  (no threads yet)
        )
    threading.Thread(target=_listen, args=(over,), daemon=True).start()
    try:
        while server.poll() is None and not over.is_set():
            over.wait(0.05)
        return server.poll() or 0
    finally:
        _stop(server)
        if job["backends"]:
            subprocess.run([sys.executable, "-I", str(_LEFTOVERS), job["backends"]], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def _end_with(parent: int) -> None:
    """In the child: SIGKILL when the keeper dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _listen(over: threading.Event) -> None:
    while os.read(0, 1024):
        pass
    over.set()


def _stop(server: subprocess.Popen[bytes]) -> None:
    if server.poll() is None:
        server.terminate()
        deadline = time.monotonic() + _GRACE
        while server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    if server.poll() is None:
        server.kill()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
