"""Progress of long work on standard error: which step, with the seconds since the command was started."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, suppress
from typing import Iterator, List

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


# "hidden" where many models are built at once: then only news is shown, a detail now and then as a sign of
# life, and all of them when the command fails.
DETAILS = "STACK_DETAILS"
_SIGN_OF_LIFE = 10.0  # seconds of silence after which a detail is shown all the same

_hidden: List[str] = []
_shown = time.monotonic()


def say(text: str) -> None:
    """News: one line with the seconds since the start."""
    _print(_stamped(text))


def detail(text: str) -> None:
    """One line on how the work goes on, which may be hidden."""
    line = _stamped(text)
    if os.environ.get(DETAILS) == "hidden" and time.monotonic() - _shown < _SIGN_OF_LIFE:
        _hidden.append(line)
    else:
        _print(line)


def show_hidden() -> None:
    """Print what was hidden: something has failed."""
    for line in _hidden:
        _print(line)
    _hidden.clear()


def _stamped(text: str) -> str:
    return f"[{time.monotonic() - _began:6.1f}s] {text}"


def _print(line: str) -> None:
    global _shown  # noqa: PLW0603  (of this process, like its standard error)
    _shown = time.monotonic()
    with suppress(OSError):  # a log on a full disk, or nobody who reads it: the work goes on
        print(line, file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a step, and say how long it took once it is done."""
    detail(f"{name} ...")
    began = time.monotonic()
    yield
    detail(f"{name}: done in {time.monotonic() - began:.1f} s")
