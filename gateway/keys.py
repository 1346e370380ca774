"""The file of API keys: lines ``name:sha256``, the hash of the key in hexadecimal.

A key is 256 random bits, so a plain SHA-256 is enough: a slow or salted hash protects words that people
choose, which can be guessed. For the same reason the file may be read by the gateway's user without harm.

Standard library only, since the scripts write this file and the gateway reads it. It is changed in place,
under a lock: in a container it is a mount of this one file, which a rename would not reach.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from pathlib import Path
from typing import Dict, Iterator, List, TextIO, Tuple

from gateway.errors import GatewayError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
PREFIX = "tsk_"  # so that a key that was committed or logged by mistake can be searched for


def read(path: Path) -> Dict[str, str]:
    """The keys' hashes by name; raises GatewayError for a line that is none. A missing file has no keys."""
    try:
        with path.open("r", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return parse(file.read(), str(path))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise GatewayError(f"{path}: the keys cannot be read: {e}") from e


def parse(text: str, where: str) -> Dict[str, str]:
    """The hashes by name; # begins a comment. Raises GatewayError naming the line."""
    found: Dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, digest = line.strip().partition(":")
        if not NAME.fullmatch(name) or not _HASH.fullmatch(digest):
            raise GatewayError(
                f"{where}:{number} is no key; expected name:sha256",
                remedy="./scripts/keys add NAME writes one",
            )
        if name in found or digest in found.values():
            raise GatewayError(f"{where}:{number}: the name or the key is there twice")
        found[name] = digest
    return found


def add(path: Path, name: str) -> str:
    """Make a key, write down its hash, and return it: it cannot be shown again. Raises GatewayError."""
    if not NAME.fullmatch(name):
        raise GatewayError(
            f'"{name}" is no name for a key; letters, digits, dot, dash and underscore, at most 64'
        )
    key = PREFIX + secrets.token_urlsafe(32)
    with _changed(path) as file:
        text = file.read()
        if name in parse(text, str(path)):
            raise GatewayError(
                f"there is a key {name} already", remedy=f"another name, or ./scripts/keys revoke {name}"
            )
        file.write(f"{'' if not text or text.endswith(chr(10)) else chr(10)}{name}:{digest(key)}\n")
    return key


def revoke(path: Path, name: str) -> None:
    """Take a key out of the file; raises GatewayError when there is none of that name."""
    with _changed(path) as file:
        text = file.read()
        if name not in parse(text, str(path)):
            raise GatewayError(f'there is no key "{name}"', remedy="./scripts/keys list")
        kept = [line for line in text.splitlines(True) if not line.strip().startswith(f"{name}:")]
        file.seek(0)
        file.write("".join(kept))
        file.truncate()


def touch(path: Path) -> None:
    """Make the file where it is missing; raises GatewayError."""
    with _changed(path):
        pass


def digest(key: str) -> str:
    """What the file holds of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def rows(keys: Dict[str, str]) -> List[Tuple[str, str]]:
    """The keys as HAProxy's map has them: the hash, and the name."""
    return [(value, name) for name, value in sorted(keys.items())]


@contextlib.contextmanager
def _changed(path: Path) -> Iterator[TextIO]:
    """The file, locked for writing and created where it is missing; raises GatewayError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readable for the container's user 1000, whoever the operator is; see above why that does no harm.
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(file.fileno())
    except (OSError, UnicodeDecodeError) as e:
        raise GatewayError(f"{path}: the keys cannot be changed: {e}") from e
