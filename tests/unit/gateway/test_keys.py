"""The file of API keys."""

from __future__ import annotations

import hashlib
import re
import threading
from pathlib import Path

import pytest

from gateway import keys
from gateway.errors import GatewayError


def test_a_key_is_shown_once_and_its_hash_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "keys"
    key = keys.add(path, "alice")
    assert re.fullmatch(r"tsk_[\w-]{43}", key), "256 bits"
    assert path.read_text() == f"alice:{hashlib.sha256(key.encode()).hexdigest()}\n"
    assert keys.add(path, "bob") != key
    assert sorted(keys.read(path)) == ["alice", "bob"]
    keys.revoke(path, "alice")
    assert sorted(keys.read(path)) == ["bob"]
    assert keys.add(path, "alice") != key


def test_the_file_stays_the_same_file(tmp_path: Path) -> None:
    """A container has this file mounted: another one under its name would not be seen."""
    path = tmp_path / "keys"
    keys.add(path, "a")
    inode = path.stat().st_ino
    keys.add(path, "b")
    keys.revoke(path, "a")
    assert path.stat().st_ino == inode
    assert path.stat().st_mode & 0o022 == 0


def test_comments_and_a_missing_line_end_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# of the team\n\nold:{'0' * 64}")
    keys.add(path, "new")
    assert path.read_text().startswith(f"# of the team\n\nold:{'0' * 64}\nnew:")
    keys.revoke(path, "old")
    assert path.read_text().startswith("# of the team\n\nnew:")


@pytest.mark.parametrize(
    "text", ["alice", "alice:123", f"a b:{'0' * 64}", f"a:{'0' * 64}\na:{'1' * 64}", f"a:{'G' * 64}", "\x00"]
)
def test_a_line_that_is_no_key_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(GatewayError, match="keys:"):
        keys.read(path)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a/b", "-a", "a" * 65, 'a"b', "a\nb"])
def test_a_name_that_would_break_a_line_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="is no name"):
        keys.add(tmp_path / "keys", name)


def test_what_is_there_or_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys.add(path, "a")
    with pytest.raises(GatewayError, match="already"):
        keys.add(path, "a")
    with pytest.raises(GatewayError, match='no key "b"'):
        keys.revoke(path, "b")
    assert keys.read(tmp_path / "none") == {}


def test_many_at_once_lose_nothing_and_no_reader_sees_half(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys.touch(path)
    seen: list[int] = []
    threads = [threading.Thread(target=keys.add, args=(path, f"k{n}")) for n in range(20)]
    threads += [threading.Thread(target=lambda: seen.append(len(keys.read(path)))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys.read(path)) == 20
    assert len(seen) == 20, "a reader met a line that is no key"
