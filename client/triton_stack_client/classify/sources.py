"""What is to be classified: names on the command line, or pictures given in code."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from triton_stack_client.errors import ClientError

STDIN = "-"
# A file, the content of a file, or pixels: UINT8 [height, width] or [height, width, 1, 3 or 4].
Picture: TypeAlias = "str | Path | bytes | np.ndarray"


@dataclass(frozen=True)
class Source:
    """A picture's name as the user knows it, and its file, content or pixels; None for standard input."""

    name: str
    content: Path | bytes | np.ndarray | None


@dataclass(frozen=True)
class Found:
    """What names on a command line stand for; ``skipped`` are a folder's files with other suffixes."""

    sources: list[Source]
    skipped: list[Path]


def of(picture: Picture, number: int) -> Source:
    """The source for a picture given in code, the ``number``th; raises TypeError for what can be none."""
    if isinstance(picture, str | Path):
        return Source(str(picture), Path(picture))
    if isinstance(picture, bytes | np.ndarray):
        return Source(f"picture {number}", picture)
    raise TypeError(f"a picture is a path, bytes or a NumPy array, not {type(picture).__name__}")


def find(names: list[str], suffixes: tuple[str, ...]) -> Found:
    """Every source in the order given; a folder's pictures, by suffix and at any depth, by name.

    A file that is not there is a source too: it fails later, by name, like one that cannot be read.

    Raises:
        ClientError: a folder holds no picture, or a pattern matches nothing.
    """
    found = Found([], [])
    for name in names:
        path = Path(name)
        if name == STDIN:
            if any(s.content is None for s in found.sources):
                raise ClientError("standard input (-) can be read only once")
            found.sources.append(Source("standard input", None))
        elif path.is_dir():
            _add_folder(found, path, suffixes)
        elif not path.exists() and glob.has_magic(name):
            found.sources.extend(_matching(name))
        else:
            found.sources.append(Source(name, path))
    return found


def _add_folder(found: Found, folder: Path, suffixes: tuple[str, ...]) -> None:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    pictures = [p for p in files if p.suffix.lower() in suffixes]
    if not pictures:
        raise ClientError(f"{folder}: holds no file that ends in {', '.join(suffixes)}")
    found.sources.extend(Source(str(p), p) for p in pictures)
    found.skipped.extend(p for p in files if p.suffix.lower() not in suffixes)


def _matching(pattern: str) -> list[Source]:
    files = sorted(p for p in glob.glob(pattern, recursive=True) if Path(p).is_file())  # noqa: PTH207  (any root)
    if not files:
        raise ClientError(f"{pattern}: matches no file")
    return [Source(p, Path(p)) for p in files]
