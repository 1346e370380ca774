"""What a killed server's successor may remove from /dev/shm."""

from __future__ import annotations

import mmap
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from triton.cpu import leftovers


@pytest.fixture
def region() -> Iterator[Path]:
    path = Path("/dev/shm") / f"triton_python_backend_shm_region_{uuid.uuid4()}"  # noqa: S108
    yield path
    path.unlink(missing_ok=True)


def test_what_nobody_has_is_removed_however_young(region: Path, tmp_path: Path) -> None:
    region.write_bytes(bytes(100))
    leftovers.remove(tmp_path)
    assert not region.exists()


def test_what_somebody_has_open_or_mapped_stays(region: Path, tmp_path: Path) -> None:
    fd = os.open(region, os.O_CREAT | os.O_RDWR)
    os.truncate(fd, 100)
    leftovers.remove(tmp_path)
    assert region.exists()
    with mmap.mmap(fd, 100):
        os.close(fd)
        leftovers.remove(tmp_path)
        assert region.exists()


def test_what_is_not_the_python_backends_stays(tmp_path: Path) -> None:
    other = Path("/dev/shm") / f"somebody-{uuid.uuid4()}"  # noqa: S108
    other.write_bytes(b"x")
    try:
        leftovers.remove(tmp_path)
        assert other.exists()
    finally:
        other.unlink()
