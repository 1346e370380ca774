"""What clients call the memory that they share with a server, in /dev/shm and on the server."""

from __future__ import annotations

import os
import re
import secrets

PATTERN = "triton-client-*"  # for glob: all that may be a client's
_NAME = re.compile(r"triton-client-\d+-[0-9a-f]{12}")


def name() -> str:
    """A name that no other region has, on any server."""
    return f"triton-client-{os.getpid()}-{secrets.token_hex(6)}"


def is_name(given: str) -> bool:
    """Whether ``name`` may have made it, in whatever process."""
    return _NAME.fullmatch(given) is not None
