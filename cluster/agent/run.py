"""The agent as a process: one look after another, a line of JSON for each event, a clean end on SIGTERM."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable

_JITTER = 0.2  # of the time between two looks: nodes that start together do not ask together
_FRESH = 600.0  # seconds: a pull reports while it goes on, so a beat that is older is an agent that hangs


def forever(step: Callable[[], None], secs: float, beat: Path) -> int:
    """Call ``step`` about every ``secs`` seconds until SIGTERM or SIGINT; the exit code.

    Args:
        beat: a file whose time says when the last look ended, for the health check.
    """
    signal.signal(signal.SIGTERM, _interrupt)  # in mid-proof a rollout hears it too, and goes back first
    try:
        trouble = ""
        while True:
            step()
            before, trouble = trouble, _touch(beat)
            if trouble and not before:  # once, and not at every look
                say("beat_not_written", reason=trouble)
            time.sleep(secs * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311  (no secret)
    except KeyboardInterrupt:
        say("ended")
        return 0


def healthy(beat: Path) -> bool:
    """Whether the last look ended lately. The file holds this boot's monotonic clock, since a wall clock that
    jumps makes nobody ill, and the number of the process."""
    try:
        return 0 <= time.monotonic() - float(beat.read_text("ascii").split()[0]) < _FRESH
    except (OSError, ValueError, IndexError):
        return False


def say(event: str, **facts: Any) -> None:
    """A line of the log on standard error."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    line = json.dumps({"time": now, "event": event, **facts}, default=str)
    with contextlib.suppress(OSError):  # a log on a full disk: the node is looked after all the same
        print(line, file=sys.stderr, flush=True)


def _touch(beat: Path) -> str:
    """Write the time of this look; why that cannot be done, empty when it can."""
    fresh = beat.with_name(f".{beat.name}.new")
    try:
        fresh.write_text(f"{time.monotonic()} {os.getpid()}\n", "ascii")
        fresh.replace(beat)
    except OSError as e:
        return str(e)
    return ""


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt
