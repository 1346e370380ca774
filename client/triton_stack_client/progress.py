"""Progress of long work on standard error, with the seconds since the command was started."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

# When the command began that people see, in seconds since 1970: ./scripts/* hand it to all they start, so
# that the lines of one command count from one start, whichever process prints them.
STARTED = "STACK_STARTED"


def _already() -> float:
    """Seconds that had passed when this process came in; 0 where it was started by itself."""
    try:
        passed = time.time() - float(os.environ.get(STARTED) or "nan")
    except ValueError:
        return 0.0
    return passed if 0 <= passed < 7 * 86400 else 0.0  # NaN is neither; clocks may differ


_began = time.monotonic() - _already()


def say(text: str) -> None:
    """One line with the seconds since the start."""
    with suppress(OSError):  # a log on a full disk, or nobody who reads it: the work goes on
        print(f"[{time.monotonic() - _began:6.1f}s] {text}", file=sys.stderr, flush=True)
