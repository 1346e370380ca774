"""Where the access log goes by UDP, as a number.

HAProxy asks for a name only once, and does not start where it does not exist, as that of a container that is
not there. A thread of its own asks: a name server that reaches no other takes seconds to say that it does not
know a name, and a server that leaves cannot wait for that.
"""

from __future__ import annotations

import socket
import threading
import time

_EVERY_SECS = 5.0
_FIRST_SECS = 2.0  # what a start waits for the first answer; later it is a reload


class LogAddress:
    """The address of ``given``, a host and a port; nowhere without it.

    Attributes:
        now: address:port, as last looked up; empty while there is none.
    """

    def __init__(self, given: str) -> None:
        self._host, _, self._port = given.rpartition(":")
        self._looked = threading.Event()
        self.now = ""

    def start(self) -> None:
        """Go on looking beside everything else, once the first look has ended or has taken too long."""
        if self._host:
            threading.Thread(target=self._run, name="log address", daemon=True).start()
            self._looked.wait(_FIRST_SECS)

    def _run(self) -> None:
        while True:
            try:
                self.now = f"{socket.gethostbyname(self._host)}:{self._port}"
            except (OSError, UnicodeError):
                self.now = ""
            self._looked.set()
            time.sleep(_EVERY_SECS)
