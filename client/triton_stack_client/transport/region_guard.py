"""Gives back the shared memory of a client that is gone: its arguments are PROTOCOL HOST:PORT.

``shared_memory.py`` starts it and tells it over standard input which regions are in use (``+name``) and which
are not any more (``-name``). Standard input ends when the client does, even when that was killed: what
is then still in use is unregistered from the server and removed.
"""

from __future__ import annotations

import sys
from pathlib import Path

_FOLDER = Path("/dev/shm")  # noqa: S108  (as in shared_memory.py, which is not imported, to start in milliseconds)
_TIMEOUT = 10.0


def main(protocol: str, address: str) -> int:
    """Wait for the client's end; 0 when nothing is left behind."""
    regions: set[str] = set()
    for line in sys.stdin:
        name = line[1:].strip()
        (regions.add if line.startswith("+") else regions.discard)(name)
    if not regions:
        return 0
    from triton_stack_client.errors import ClientError
    from triton_stack_client.transport.protocol import Wire

    for region in regions:
        (_FOLDER / region).unlink(missing_ok=True)
    try:
        wire = Wire(protocol, address, _TIMEOUT)
        for region in regions:
            wire.unregister(region)
    except ClientError as e:
        print(f"shared memory of a client that is gone: {e}", file=sys.stderr)
        return 1  # the server is gone as well, and its registrations with it
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
