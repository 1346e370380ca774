"""Run a program that ends when its parent does, however that one ends.

Run as ``python3 with_parent.py PARENT ERRORS PROGRAM ARGUMENT...``: PARENT is the process that must live,
ERRORS a file descriptor that takes the reason when PROGRAM cannot be started, and is closed when it can.
A program of its own, since a function between fork and exec is not safe in a process with threads.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Ask the kernel for SIGKILL at the parent's death, and become the program."""
    parent, errors, *argv = sys.argv[1:]
    os.set_inheritable(int(errors), False)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before we asked
        sys.exit(1)
    try:
        os.execvp(argv[0], argv)  # noqa: S606  (a list, no shell)
    except OSError as e:
        os.write(int(errors), (e.strerror or str(e)).encode())
        sys.exit(127)


if __name__ == "__main__":
    main()
