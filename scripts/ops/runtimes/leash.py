"""The leash that builders are held by: they end when this process does (builder/leash.py)."""

from __future__ import annotations

import contextlib
import os
from typing import Dict, Iterator

ENVIRONMENT: Dict[str, str] = {"BUILDER_LEASH": "stdin"}


@contextlib.contextmanager
def held() -> Iterator[int]:
    """The builder's standard input, a file descriptor: it ends with this block, or with this process."""
    read, write = os.pipe()  # neither end is inherited by other children
    try:
        yield read
    finally:
        os.close(write)
        os.close(read)
