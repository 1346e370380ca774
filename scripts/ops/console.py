"""What the scripts print: progress on standard error, tables on standard output, colour on a terminal."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from typing import Any, Dict, Sequence, TextIO

# When this command began, in seconds since 1970: the builder and the client, processes or containers, count
# their lines of progress from it (builder/progress.py, client/triton_stack_client/progress.py).
STARTED = "STACK_STARTED"
_began = time.monotonic()
_handed_on = {STARTED: f"{time.time():.3f}"}
_COLOURS = {"ok": "32", "warn": "33", "fail": "31", "bold": "1"}


def colour(text: str, kind: str, stream: TextIO = sys.stdout) -> str:
    """``text`` in the colour of ``kind`` (ok, warn, fail, bold): on a terminal, and without NO_COLOR."""
    wanted = stream.isatty() and not os.environ.get("NO_COLOR")  # no-color.org: set and not empty
    return f"\033[{_COLOURS[kind]}m{text}\033[0m" if wanted else text


def progress(text: str) -> None:
    """One line of progress with the seconds since the start."""
    stamp = f"[{time.monotonic() - _began:6.1f}s]"
    with suppress(OSError):  # a log on a full disk, or nobody who reads it: the work goes on
        print(f"{colour(stamp, 'bold', sys.stderr)} {text}", file=sys.stderr, flush=True)


def hide_details() -> None:
    """Let the builder show its news only, and its details when it fails."""
    _handed_on["STACK_DETAILS"] = "hidden"


def started() -> Dict[str, str]:
    """The variables that hand this command's start, and how much to say, to what it starts."""
    return dict(_handed_on)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        print(colour(line, "bold") if number == 0 else line)


def answer(data: Any, text: str, *, as_json: bool) -> None:
    """A verb's answer on standard output: ``data`` as JSON for programs, or ``text`` for people."""
    print(json.dumps(data, indent=2) if as_json else text)
