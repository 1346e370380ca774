"""What the scripts print: progress on standard error, tables on standard output, colour on a terminal."""

from __future__ import annotations

import sys
import time
from typing import Callable, List, Sequence, TextIO

from ops.errors import OpsError

_started = time.monotonic()
_COLOURS = {"ok": "32", "warn": "33", "fail": "31", "bold": "1"}


def colour(text: str, kind: str, stream: TextIO = sys.stdout) -> str:
    """``text`` in the colour of ``kind`` (ok, warn, fail, bold), on a terminal only."""
    return f"\033[{_COLOURS[kind]}m{text}\033[0m" if stream.isatty() else text


def progress(text: str) -> None:
    """One line of progress with the seconds since the start."""
    stamp = f"[{time.monotonic() - _started:5.1f}s]"
    print(f"{colour(stamp, 'bold', sys.stderr)} {text}", file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[str]]) -> None:
    """Aligned columns; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for number, row in enumerate(rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        print(colour(line, "bold") if number == 0 else line)


def run(main: Callable[[List[str]], int]) -> None:
    """Run a script's ``main`` and exit: the one place that prints errors and sets the exit code."""
    try:
        sys.exit(main(sys.argv[1:]))
    except OpsError as e:
        print(f"{colour('error', 'fail', sys.stderr)}: {e}", file=sys.stderr)
        sys.exit(1)
    except OSError as e:  # a full disk, a folder that may not be written
        if isinstance(e, BrokenPipeError):  # `status | head`
            sys.stderr.close()
            sys.exit(141)
        where = f"{e.filename}: " if e.filename else ""
        print(f"{colour('error', 'fail', sys.stderr)}: {where}{e.strerror or e}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; what was served is still served", file=sys.stderr)
        sys.exit(130)
