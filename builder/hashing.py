"""SHA-256 of files and folders."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def of_path(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, or of a folder's files with their relative names, in order."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path).as_posix()}\0{of_path(file)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as f:
        for chunk in iter(lambda: f.read(1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()


def of_json(data: Any) -> str:
    """Hexadecimal SHA-256 of data as canonical JSON."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
