"""A model's releases: where a rollback goes, what it leaves behind, and going back when the disk refuses."""

from __future__ import annotations

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.faults import Faults

from builder import cli, hashing
from builder.errors import LockedError, ReleaseError
from builder.release.lifecycle import ModelReleases
from builder.release.store import Store


@pytest.fixture
def releases(tmp_path: Path) -> ModelReleases:
    return ModelReleases(Store(tmp_path / "models"), "m")


def publish(releases: ModelReleases, model: str = "m") -> int:
    store = releases.store
    version = store.next_version(model)
    staged = store.stage(model) / "release"
    engine = staged / "model" / str(version) / "model.onnx"
    engine.parent.mkdir(parents=True)
    for file in (engine, staged / "model/config.pbtxt", staged / "model/labels.txt", staged / "golden.npz"):
        file.write_text(f"{file.name} {version}")
    files = {str(p.relative_to(staged)): hashing.of_path(p) for p in staged.rglob("*") if p.is_file()}
    data: dict[str, Any] = {
        "model": model, "version": version, "files": files, "spec": {"batch": version}, "created": "now",
        "engine": {"name": "onnxruntime", "version": "1"}, "weights": {"description": "w"},
    }  # fmt: skip
    (staged / "manifest.json").write_text(json.dumps(data))
    store.publish(staged, model, version)
    return version


def proven(releases: ModelReleases, count: int) -> None:
    for _ in range(count):
        releases.activate(publish(releases), pending=True)
        releases.confirm()


def states(releases: ModelReleases) -> dict[int, str]:
    return {v: releases.state(v) for v in releases.versions}


def test_rollbacks_in_a_row_go_down(releases: ModelReleases) -> None:
    proven(releases, 3)
    for target in (2, 1):
        assert releases.predecessor() == target
        releases.activate(target, pending=True)
        releases.confirm()
    assert releases.predecessor() is None
    assert states(releases) == {1: "live", 2: "rolled back", 3: "rolled back"}


def test_a_rollback_passes_by_what_failed_or_was_never_proven(releases: ModelReleases) -> None:
    proven(releases, 1)
    publish(releases)
    releases.activate(publish(releases), pending=True)
    releases.revert("wrong answers")
    proven(releases, 1)
    assert states(releases) == {1: "previous", 2: "kept", 3: "failed", 4: "live"}
    assert releases.predecessor() == 1


def test_a_release_that_goes_live_again_was_not_rolled_away_from(releases: ModelReleases) -> None:
    proven(releases, 2)
    releases.activate(1)
    assert states(releases) == {1: "live", 2: "rolled back"}
    releases.activate(2)
    assert states(releases) == {1: "previous", 2: "live"}


def test_the_history_of_the_code_before_is_read(releases: ModelReleases) -> None:
    proven(releases, 2)
    path = releases.store.root / "releases/m/.history"
    path.write_text("[1, 2]")
    assert (releases.history(), releases.predecessor()) == ([1, 2], 1)
    releases.activate(1)
    assert json.loads(path.read_text()) == {"proven": [2, 1], "rolled_back": [2]}


def test_a_retired_model_keeps_its_releases_and_comes_back(releases: ModelReleases) -> None:
    proven(releases, 2)
    assert releases.retire() == 2
    assert list((releases.store.root / "repository").iterdir()) == []
    assert (releases.live, releases.history(), releases.predecessor()) == (None, [1, 2], 2)
    releases.activate(2)
    assert releases.live == 2


def test_a_model_that_is_not_there_cannot_be_retired(releases: ModelReleases) -> None:
    with pytest.raises(ReleaseError, match="there is no model m"):
        releases.retire()


def test_a_full_disk_does_not_keep_a_bad_release_live(releases: ModelReleases) -> None:
    proven(releases, 1)
    releases.activate(publish(releases), pending=True)
    with Faults(errno.ENOSPC, 0, lasting=True):
        done = releases.revert("wrong answers")
    assert (done.version, done.live, releases.live) == (2, 1, 1)
    assert any("audit.log" in line for line in done.problems), "what could not be done is told"
    assert states(releases) == {1: "live", 2: "failed"}


def test_a_read_only_disk_is_told_with_what_is_live(releases: ModelReleases) -> None:
    proven(releases, 1)
    releases.activate(publish(releases), pending=True)
    with Faults(errno.EROFS, 0, lasting=True), pytest.raises(ReleaseError) as error:
        releases.revert("wrong answers")
    assert "release 2 is still live, and not proven: Read-only file system" in error.value.found
    assert "goes back to release 1" in error.value.remedy
    assert releases.revert("wrong answers").live == 1, "one more command heals"


def test_a_rollback_on_a_full_disk_flips_all_the_same(releases: ModelReleases) -> None:
    proven(releases, 2)
    with Faults(errno.ENOSPC, 0, lasting=True):
        releases.activate(1, pending=True, anyway=True)
    assert releases.live == 1
    assert releases.pending() is None


def test_a_release_to_go_back_to_that_has_gone_is_passed_by(releases: ModelReleases) -> None:
    proven(releases, 2)
    releases.activate(publish(releases), pending=True)
    shutil.rmtree(releases.store.folder("m", 2))
    assert releases.revert("in a test").live == 1


def run(releases: ModelReleases, *argv: str) -> int:
    return cli.main([*argv, "--models-dir", str(releases.store.root)])


def test_a_lock_folder_that_cannot_be_used_does_not_keep_anybody_from_going_back(
    releases: ModelReleases, capsys: pytest.CaptureFixture[str]
) -> None:
    proven(releases, 1)
    releases.activate(publish(releases), pending=True)
    lock = releases.store.root / "lock"
    shutil.rmtree(lock)
    lock.write_text("in the way")
    assert run(releases, "revert", "m", "--reason", "in a test", "--json") == 0
    assert json.loads(capsys.readouterr().out)["live"] == 1


def test_a_lock_that_somebody_holds_does(releases: ModelReleases) -> None:
    with releases.store.lock("first"), pytest.raises(LockedError), releases.store.lock("back", needed=False):
        pass


@pytest.mark.parametrize("text", ["", "[]", "{}", "\0"])
def test_one_unreadable_manifest_hides_no_other_release(
    releases: ModelReleases, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    proven(releases, 3)
    (releases.store.folder("m", 2) / "manifest.json").write_text(text)
    assert run(releases, "releases", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(r["version"], r["state"]) for r in rows] == [(1, "kept"), (2, "unreadable"), (3, "live")]
    assert rows[1]["reason"]
    assert run(releases, "releases") == 0
    assert "m 2  unreadable" in capsys.readouterr().out
    assert run(releases, "rollback", "m", "--to", "1") == 0
    assert run(releases, "rollback", "m", "--to", "3") == 0
    assert run(releases, "prune", "--keep", "1") == 0


@pytest.mark.parametrize("argv", [["releases"], ["prune", "--keep", "1"]])
def test_where_nothing_has_been_built_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    assert cli.main([*argv, "--models-dir", str(tmp_path / "none"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model/labels.txt", "golden.npz", "model/config.pbtxt"])
def test_another_byte_in_any_file_is_damage(releases: ModelReleases, name: str) -> None:
    version = publish(releases)
    with (releases.store.folder("m", version) / name).open("a") as f:
        f.write(" ")
    with pytest.raises(ReleaseError, match=f"damaged: .*{name}"):
        releases.activate(version)
    assert releases.live is None


def test_a_release_of_the_code_before_goes_live(releases: ModelReleases) -> None:
    """Schema 1: the manifest knows the engine's hash alone."""
    version = publish(releases)
    path = releases.store.folder("m", version) / "manifest.json"
    data = json.loads(path.read_text())
    sha = data.pop("files")[f"model/{version}/model.onnx"]
    data["engine"] = {"name": "onnxruntime", "file": "model.onnx", "sha256": sha}
    path.write_text(json.dumps(data))
    releases.activate(version)
    assert releases.live == version
    assert releases.rows()[0]["state"] == "live"


def test_the_builder_s_errors_are_data(releases: ModelReleases, capsys: pytest.CaptureFixture[str]) -> None:
    publish(releases)
    assert run(releases, "activate", "m", "7", "--json") == 1
    assert json.loads(capsys.readouterr().out)["error"] == {
        "kind": "ReleaseError", "found": "m has no release 7", "expected": "one of: 1", "remedy": "",
        "details": "",
    }  # fmt: skip
