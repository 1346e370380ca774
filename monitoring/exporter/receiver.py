"""The access log as it arrives: UDP, one line a datagram. Loses nothing quietly."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from monitoring.exporter import access
from monitoring.exporter.traffic import Traffic

_BUFFER = 8 << 20  # bytes asked of the kernel: some 20,000 lines, while this program does something else
_LONGEST = 65535  # bytes of a datagram
_TABLE = Path("/proc/self/net/udp")


class Receiver:
    """Reads datagrams into ``traffic``, in a thread of its own once started.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, host: str, port: int, traffic: Traffic) -> None:
        self._traffic = traffic
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.port = int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, name="access log", daemon=True).start()

    def lost(self) -> int:
        """Datagrams that the kernel dropped because this program did not read fast enough; 0 where the
        kernel does not tell."""
        inode = str(os.fstat(self._socket.fileno()).st_ino)
        try:
            rows = [line.split() for line in _TABLE.read_text("ascii").splitlines()[1:]]
        except OSError:
            return 0
        # proc(5): the inode is the tenth column, the count of drops the last.
        return sum(int(row[-1]) for row in rows if len(row) > 12 and row[9] == inode)

    def _read(self) -> None:
        while True:
            line = self._socket.recv(_LONGEST)
            try:
                request = access.parse(line)
            except ValueError:
                self._traffic.other(line)
            else:
                self._traffic.add(request)
