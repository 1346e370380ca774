"""The driver, the process of an operation: its builders end with it, and its containers say whose they
are, so that the next driver knows whether it still lives.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Dict, Iterator, Optional

LABEL = "tensorflow-triton.driver"  # on the one-off containers that a driver starts
LEASH: Dict[str, str] = {"BUILDER_LEASH": "stdin"}  # a builder's environment on a ``leash``


def start_time(pid: int) -> Optional[str]:
    """The process's start in clock ticks since boot (proc(5), field 22); None when there is none.

    Process numbers are used anew; no other process of that number shares the start time.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def me() -> str:
    """This process: where its number is valid (the boot, the PID namespace), its number, its start time."""
    return f"{_here()} {os.getpid()} {start_time(os.getpid())}"


def gone(driver: str) -> bool:
    """Whether the process that ``me`` named has ended; False where that cannot be told from here."""
    here, pid, started = [*driver.rsplit(" ", 2), "", ""][:3]
    return here == _here() and pid.isdigit() and start_time(int(pid)) != started


def _here() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"


@contextlib.contextmanager
def leash() -> Iterator[int]:
    """A builder's standard input, a file descriptor: it ends with this block, or with this process."""
    read, write = os.pipe()  # neither end is inherited by other children
    try:
        yield read
    finally:
        os.close(write)
        os.close(read)
