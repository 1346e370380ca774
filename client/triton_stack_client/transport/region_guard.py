"""Gives back the shared memory of a client that is gone: its arguments are PROTOCOL HOST:PORT.

``shared_memory.py`` starts it and tells it over standard input which regions are in use (``+kind name``, of
the kinds system and cuda) and which are not any more (``-kind name``). Standard input ends when the client
does, even when that was killed: what is then still in use is unregistered from the server and removed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triton_stack_client.transport.protocol import Connection

_FOLDER = Path("/dev/shm")  # noqa: S108  (as in system_memory.py, which is not imported, to start in milliseconds)
_TIMEOUT = 10.0
# The last requests of a client that was killed may still run. A server older than 2.50 dies of unregistering
# what they use, so it is left this many seconds; a newer one refuses until they have ended.
_LAST_REQUESTS = 60.0


def main(protocol: str, address: str) -> int:
    """Wait for the client's end; 0 when nothing is left behind."""
    regions: set[tuple[str, str]] = set()
    for line in sys.stdin:
        kind, _, name = line[1:].strip().partition(" ")
        (regions.add if line.startswith("+") else regions.discard)((kind, name))
    if not regions:
        return 0
    from triton_stack_client.errors import ClientError
    from triton_stack_client.transport.protocol import Connection
    from triton_stack_client.transport.shared_memory import protects

    for kind, region in regions:
        if kind == "system":  # a GPU's memory goes with the client and with the server's side of it
            (_FOLDER / region).unlink(missing_ok=True)
    try:
        connection = Connection(protocol, address, _TIMEOUT)
        if not protects(connection.server()):
            time.sleep(_LAST_REQUESTS)
        deadline = time.monotonic() + _LAST_REQUESTS
        while regions:
            regions = {
                r for r in regions if not _unregister(connection, *r, last=time.monotonic() > deadline)
            }
            time.sleep(0.1 if regions else 0)
    except ClientError as e:
        print(f"shared memory of a client that is gone: {e}", file=sys.stderr)
        return 1  # the server is gone as well, and its registrations with it
    return 0


def _unregister(connection: Connection, kind: str, region: str, *, last: bool) -> bool:
    """Whether the region is gone; raises what the server says when this was the last try."""
    from triton_stack_client.errors import ServerError

    try:
        connection.unregister(region, kind)
    except ServerError as e:
        if last or not e.refused:
            raise
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
