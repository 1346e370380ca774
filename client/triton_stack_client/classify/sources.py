"""What `classify` was asked to look at: files, folders, patterns, standard input."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from triton_stack_client.errors import ClientError

STDIN = "-"


@dataclass(frozen=True)
class Source:
    """A picture to be: its name as the user knows it, and its file; None for standard input."""

    name: str
    path: Path | None


def find(names: list[str], suffixes: tuple[str, ...]) -> list[Source]:
    """Every source in the order given; a folder's pictures, by suffix and at any depth, by name.

    A file that is not there is a source too: it fails later, by name, like one that cannot be read.

    Raises:
        ClientError: a folder holds no picture, or a pattern matches nothing.
    """
    found: list[Source] = []
    for name in names:
        path = Path(name)
        if name == STDIN:
            if any(s.path is None for s in found):
                raise ClientError("standard input (-) can be read only once")
            found.append(Source("standard input", None))
        elif path.is_dir():
            found += _in_folder(path, suffixes)
        elif not path.exists() and glob.has_magic(name):
            found += _matching(name)
        else:
            found.append(Source(name, path))
    return found


def _in_folder(folder: Path, suffixes: tuple[str, ...]) -> list[Source]:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    if not files:
        raise ClientError(f"{folder}: holds no file that ends in {', '.join(suffixes)}")
    return [Source(str(p), p) for p in files]


def _matching(pattern: str) -> list[Source]:
    files = sorted(p for p in glob.glob(pattern, recursive=True) if Path(p).is_file())  # noqa: PTH207  (any root)
    if not files:
        raise ClientError(f"{pattern}: matches no file")
    return [Source(p, Path(p)) for p in files]
