"""Run a long command: its whole output to a log file, its news to the screen, a heartbeat in silence."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, List

from builder import progress
from builder.errors import EngineError

_WITH_PARENT = Path(__file__).with_name("with_parent.py")
_HEARTBEAT = 10.0  # seconds of silence after which one says that it still runs


def run(
    argv: List[str], *, cwd: Path, log: Path, show: Callable[[str], bool], limit: float = math.inf
) -> int:
    """Run ``argv`` in ``cwd``, append its output to ``log``, print the lines for which ``show`` is true.

    Returns the exit code. The child outlives neither an exception here nor this process's own end, be it
    SIGKILL: it would go on for minutes, holding the GPU, for nobody.

    Args:
        limit: seconds after which it is killed.

    Raises:
        EngineError: the program cannot be started.
        TimeoutError: it does not end in time.
    """
    began = time.monotonic()
    with log.open("ab") as sink:
        child = _start(argv, cwd)
        assert child.stdout is not None
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(child.stdout, selectors.EVENT_READ)
                pending = b""
                while True:
                    left = began + limit - time.monotonic()
                    if left <= 0:
                        raise TimeoutError
                    if not selector.select(min(_HEARTBEAT, left)):
                        progress.detail(f"  still running, {time.monotonic() - began:.0f} s")
                        continue
                    chunk = os.read(child.stdout.fileno(), 65536)
                    if not chunk:
                        break
                    sink.write(chunk)
                    *lines, pending = (pending + chunk).split(b"\n")
                    for line in lines:
                        text = line.decode("utf-8", "replace")
                        if show(text):
                            progress.detail(f"  {text}")
            last = pending.decode("utf-8", "replace")
            if last and show(last):  # a program that dies may not end its last line
                progress.detail(f"  {last}")
            return child.wait()
        finally:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)  # with its own children, where it is a script
                child.wait()
            child.stdout.close()


def _start(argv: List[str], cwd: Path) -> subprocess.Popen[bytes]:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as refusal:
        try:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_WITH_PARENT), str(os.getpid()), str(write), *argv],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[write],
                start_new_session=True,
            )
        finally:
            os.close(write)
        reason = refusal.read().decode()  # ends when the program has started
    if reason:
        child.communicate()
        raise EngineError(f"{argv[0]} cannot be started: {reason}")
    return child
