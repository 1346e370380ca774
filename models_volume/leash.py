"""A leash: whoever starts the builder, or a cluster command, may hold its standard input; ending lets go.

A driver that is killed cannot end what it has started, least of all in a container. With BUILDER_LEASH=stdin
the end of standard input ends the process at once: nothing goes live that nobody would prove. That is safe,
since the store is whole after a kill at any moment.
"""

from __future__ import annotations

import os
import signal
import threading


def hold() -> None:
    """Begin to watch standard input, where BUILDER_LEASH says that somebody holds it."""
    if os.environ.get("BUILDER_LEASH") == "stdin":
        threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    try:
        while os.read(0, 1024):
            pass
    except OSError:
        pass  # no standard input at all is nobody who holds it
    os.kill(os.getpid(), signal.SIGKILL)
