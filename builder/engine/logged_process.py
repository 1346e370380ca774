"""Run a long command: its whole output to a log file, its news to the screen, a heartbeat in silence."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from pathlib import Path
from typing import Callable, List

from builder import progress
from builder.errors import EngineError

_HEARTBEAT = 10.0  # seconds of silence after which one says that it still runs


def run(argv: List[str], *, cwd: Path, log: Path, show: Callable[[str], bool]) -> int:
    """Run ``argv`` in ``cwd``, append its output to ``log``, print the lines for which ``show`` is true.

    Returns the exit code; the child does not outlive an exception here.

    Raises:
        EngineError: the program cannot be started.
    """
    began = time.monotonic()
    with log.open("ab") as sink:
        try:
            child = subprocess.Popen(argv, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except OSError as e:
            raise EngineError(f"{argv[0]} cannot be started: {e.strerror}") from e
        assert child.stdout is not None
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(child.stdout, selectors.EVENT_READ)
                pending = b""
                while True:
                    if not selector.select(_HEARTBEAT):
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
                child.kill()
                child.wait()
            child.stdout.close()
