"""What a server's log says went wrong."""

from __future__ import annotations

import re
from typing import List

# Triton's and glog's head of a line: a letter for the level, the date and time, the thread, the source line.
_HEAD = re.compile(r"^([IWEF])\d{4} [\d:.]+ +\d+ [\w.]+:\d+\] ?")
_TABLE = re.compile(r"^[+|]")
# What every server without a GPU says, right or wrong.
_NOISE = re.compile(
    r"CudaDriverHelper has not been initialized"
    r"|Unable to allocate pinned system memory"
    r"|Failed to initialize NVML"
    r"|^Signal \(\d+\) received"
    r'|^\{"cmdline":'
)


def errors(log: List[str], lines: int = 20) -> str:
    """The last of a log's errors, without their heads; its last lines where it has none."""
    found = _errors(log)
    return "\n".join((found or [line for line in log if line.strip()])[-lines:])


def cause(log: List[str]) -> str:
    """What a server that did not start said last of its errors, in one line; empty where it said nothing.

    Errors come in the order in which they go up: the last one is the one that nothing went on after.
    """
    found = [line for line in _errors(log) if not line.startswith((" ", "\t"))]
    return found[-1].strip() if found else ""


def _errors(log: List[str]) -> List[str]:
    """Errors, each with its further lines, and what other programs wrote (a shell, C++'s last words)."""
    found, level = [], ""
    for line in log:
        head = _HEAD.match(line)
        text = line[head.end() :].strip('"') if head else line
        # A line with no head belongs to the one before it, where it is set in or in its quotation marks.
        level = head.group(1) if head else level if line.startswith((" ", "\t")) else "E"
        if level in ("E", "F") and text.strip() and not _TABLE.match(text) and not _NOISE.search(text):
            found.append(text.rstrip('"'))
    return found
