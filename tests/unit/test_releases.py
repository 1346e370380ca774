"""The release store: what is live is whole, numbers are never used twice, one change at a time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.stack import ROOT

from builder import hashing
from builder.errors import LockedError, ReleaseError
from builder.release.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def publish(store: Store, model: str = "m", content: str = "engine") -> int:
    """A release in the least that a store looks at."""
    version = store.next_version(model)
    staged = store.stage(model) / "release"
    engine = staged / "model" / str(version) / "model.onnx"
    engine.parent.mkdir(parents=True)
    engine.write_text(content)
    (staged / "model" / "config.pbtxt").write_text("name: 'm'")
    (staged / "golden.npz").touch()
    data = {"engine": {"file": "model.onnx", "sha256": hashing.of_path(engine)}, "version": version}
    (staged / "manifest.json").write_text(json.dumps(data))
    store.publish(staged, model, version)
    return version


def engine_of(store: Store, version: int) -> Path:
    return store.root / "releases" / "m" / str(version) / "model" / str(version) / "model.onnx"


def newest(folder: Path) -> int:
    return max(p.stat().st_mtime_ns for p in [folder, *folder.rglob("*")])


def test_a_new_store_has_its_folders_and_no_model(store: Store) -> None:
    folders = {p.name for p in store.root.iterdir()}
    assert {"repository", "releases", "staging", "cache", "lock"} <= folders
    assert store.models() == []


def test_a_published_release_is_complete_and_not_live(store: Store) -> None:
    assert publish(store) == 1
    assert store.versions("m") == [1]
    assert store.live("m") is None
    assert engine_of(store, 1).read_text() == "engine"


def test_a_release_goes_live_behind_a_relative_link(store: Store) -> None:
    store.activate("m", publish(store))
    link = store.root / "repository" / "m"
    assert os.readlink(link) == "../releases/m/1/model"
    assert (link / "1" / "model.onnx").read_text() == "engine"
    assert store.live("m") == 1


def test_the_repository_holds_nothing_but_links(store: Store) -> None:
    for _ in range(3):
        store.activate("m", publish(store))
    assert [p.name for p in (store.root / "repository").iterdir()] == ["m"]


def test_an_older_release_can_go_live_again(store: Store) -> None:
    for _ in range(2):
        store.activate("m", publish(store))
    store.activate("m", 1)
    assert store.live("m") == 1


def test_numbers_ascend_past_nine(store: Store) -> None:
    assert [publish(store) for _ in range(11)] == list(range(1, 12))
    assert store.versions("m") == list(range(1, 12))


def test_the_number_of_a_removed_release_is_never_used_again(store: Store) -> None:
    publish(store)
    publish(store)
    for version in (1, 2):
        folder = store.root / "releases" / "m" / str(version)
        folder.rename(store.root / f"gone{version}")
    assert store.next_version("m") == 3


def test_a_lost_counter_is_made_up_for_by_the_releases_there_are(store: Store) -> None:
    publish(store)
    publish(store)
    (store.root / "releases" / "m" / ".last").unlink()
    assert store.next_version("m") == 3


def test_each_model_counts_for_itself(store: Store) -> None:
    publish(store)
    assert store.next_version("other") == 1


def test_a_number_that_is_taken_is_refused(store: Store) -> None:
    publish(store)
    staged = store.stage("m") / "release"
    staged.mkdir()
    with pytest.raises(ReleaseError, match="cannot be published"):
        store.publish(staged, "m", 1)
    assert engine_of(store, 1).read_text() == "engine"


def test_a_release_that_is_not_there_is_refused_with_those_that_are(store: Store) -> None:
    publish(store)
    with pytest.raises(ReleaseError) as error:
        store.activate("m", 7)
    assert "m has no release 7" in str(error.value)
    assert "expected: one of: 1" in str(error.value)


def test_a_model_without_releases_is_refused(store: Store) -> None:
    with pytest.raises(ReleaseError, match="one of: none"):
        store.activate("nobody", 1)


def test_a_damaged_engine_is_told_and_never_goes_live(store: Store) -> None:
    publish(store)
    store.activate("m", 1)
    publish(store)
    engine_of(store, 2).write_text("bit rot")
    assert "does not have the sha256 of its manifest" in store.damage("m", 2)
    with pytest.raises(ReleaseError, match="damaged"):
        store.activate("m", 2)
    assert store.live("m") == 1


@pytest.mark.parametrize("name", ["manifest.json", "model/config.pbtxt", "golden.npz", "model/1/model.onnx"])
def test_a_release_without_one_of_its_files_is_damaged(store: Store, name: str) -> None:
    publish(store)
    assert store.damage("m", 1) == ""
    (store.root / "releases" / "m" / "1" / name).unlink()
    assert store.damage("m", 1) != ""


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"engine": 1}', '{"engine": {"file": 3, "sha256": 1}}', "\0"]
)
def test_a_manifest_that_makes_no_sense_is_damage_not_a_crash(store: Store, text: str) -> None:
    publish(store)
    (store.root / "releases" / "m" / "1" / "manifest.json").write_text(text)
    assert store.damage("m", 1) != ""


def test_going_live_makes_a_release_newer_than_the_live_one(store: Store) -> None:
    for _ in range(2):
        store.activate("m", publish(store))
    seen = newest(store.root / "repository" / "m")
    store.activate("m", 1)
    assert newest(store.root / "repository" / "m") > seen


def test_a_live_release_from_the_future_is_overtaken_too(store: Store) -> None:
    for _ in range(2):
        store.activate("m", publish(store))
    future = time.time() + 10_000
    os.utime(engine_of(store, 2), (future, future))
    store.activate("m", 1)
    assert newest(store.root / "repository" / "m") > int(future * 1e9)


def test_making_the_live_release_live_again_is_seen_as_a_change(store: Store) -> None:
    store.activate("m", publish(store))
    seen = newest(store.root / "repository" / "m")
    store.activate("m", 1)
    assert newest(store.root / "repository" / "m") > seen


def test_a_link_that_dangles_does_not_keep_a_release_from_going_live(store: Store) -> None:
    publish(store)
    (store.root / "repository" / "m").symlink_to("../releases/m/9/model")
    store.activate("m", 1)
    assert store.live("m") == 1


@pytest.mark.parametrize("target", ["somewhere", "../releases/m/x/model", "/"])
def test_a_link_that_is_not_ours_names_no_version(store: Store, target: str) -> None:
    (store.root / "repository" / "m").symlink_to(target)
    assert store.live("m") is None


def test_staging_clears_what_dead_builds_left(store: Store) -> None:
    staging = store.root / "staging"
    (staging / "dead" / "deep").mkdir(parents=True)
    (staging / "file").touch()
    (staging / ".link-m-1").symlink_to("../releases/m/1/model")  # killed between its making and the flip
    folder = store.stage("m")
    assert list(staging.iterdir()) == [folder]


def test_every_change_is_a_line_of_json(store: Store) -> None:
    store.activate("m", publish(store))
    store.activate("m", publish(store))
    store.audit("note", text='lines\nand "quotes"')
    rows = [json.loads(line) for line in (store.root / "audit.log").read_text().splitlines()]
    assert [(r["event"], r.get("version"), r.get("previous")) for r in rows] == [
        ("activate", 1, None),
        ("activate", 2, 1),
        ("note", None, None),
    ]
    for row in rows:
        assert {"time", "user", "pid"} <= set(row)


def test_a_root_that_is_a_file_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReleaseError) as error:
        Store(tmp_path / "file")
    assert "cannot be written" in str(error.value)
    assert "MODELS_DIR" in str(error.value)


def test_a_root_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReleaseError, match="cannot be written"):
        Store(tmp_path / "file" / "models")


def test_a_root_of_a_read_only_file_system_is_refused() -> None:
    with pytest.raises(ReleaseError, match="cannot be written"):
        Store(Path("/proc/models"))


@contextmanager
def holder(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from builder.release.store import Store\n"
        "with Store(Path(sys.argv[1])).lock('build of resnet50'): print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def test_a_lock_that_is_held_names_its_holder(store: Store) -> None:
    with holder(store.root) as child, pytest.raises(LockedError) as error, store.lock("mine"):
        pass
    assert "build of resnet50" in str(error.value)
    assert f"process {child.pid}" in str(error.value)


def test_a_killed_holder_s_lock_is_free_at_once(store: Store) -> None:
    with holder(store.root) as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        with store.lock("mine"):
            text = (store.root / "lock" / "change").read_text()
        assert f"mine by {text.split(' by ')[1].split('@')[0]}" in text
        assert "resnet50" not in text


def test_a_lock_is_free_after_an_exception(store: Store) -> None:
    with pytest.raises(KeyboardInterrupt), store.lock("first"):
        raise KeyboardInterrupt
    with store.lock("second"):
        assert (store.root / "lock" / "change").read_text().startswith("second by ")


def test_a_lock_is_not_taken_twice_in_one_process(store: Store) -> None:
    with store.lock("first"), pytest.raises(LockedError, match="first by"), store.lock("second"):
        pass
