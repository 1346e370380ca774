"""Progress of long work on standard error: which step, how long so far."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import Iterator

_started = time.monotonic()


def say(text: str) -> None:
    """One line with the seconds since the start."""
    print(f"[{time.monotonic() - _started:5.1f}s] {text}", file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a step, and say how long it took once it is done."""
    say(f"{name} ...")
    began = time.monotonic()
    yield
    say(f"{name}: done in {time.monotonic() - began:.1f} s")
