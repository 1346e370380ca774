"""Virtual environments: which are stale, and how a failing install is told. Nothing is installed here."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from ops.errors import OpsError
from ops.runtimes import environments


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Environments and lock files of the test's own: parts ``one`` and ``two``."""
    for part in ("one", "two"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "requirements.txt").write_text("numpy==1\n")
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "venvs")
    return tmp_path / "venvs"


def pip(code: str, log: Path) -> subprocess.Popen[bytes]:
    """A stand-in for pip: a program that runs ``code`` into its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as sink:
        return subprocess.Popen([sys.executable, "-c", code], stdout=sink, stderr=subprocess.STDOUT)


def install(monkeypatch: pytest.MonkeyPatch, folder: Path, **codes: str) -> list[str]:
    """Let ``ensure`` run these programs in place of pip; returns the list of parts it starts."""
    started = []

    def start(part: str, *, with_uv: bool) -> subprocess.Popen[bytes]:
        started.append(part)
        python = folder / part / "bin" / "python3"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        return pip(codes.get(part, "pass"), folder / f"{part}.log")

    monkeypatch.setattr(environments, "_start", start)
    return started


def test_what_was_never_made_is_stale() -> None:
    assert environments.stale(["one", "two"]) == ["one", "two"]


def test_what_was_made_is_not_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = install(monkeypatch, folder)
    environments.ensure(["one", "two"])
    environments.ensure(["one", "two"])
    assert started == ["one", "two"]
    assert environments.stale(["one", "two"]) == []


def test_a_changed_lock_file_makes_its_environment_stale_and_no_other(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, folder)
    environments.ensure(["one", "two"])
    (tmp_path / "two" / "requirements.txt").write_text("numpy==2\n")
    assert environments.stale(["one", "two"]) == ["two"]


def test_another_python_makes_them_all_stale(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, folder)
    environments.ensure(["one"])
    monkeypatch.setattr(sys, "executable", "/another/python3")
    assert environments.stale(["one"]) == ["one"]


def test_an_environment_without_its_python_is_stale(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, folder)
    environments.ensure(["one"])
    environments.python("one").unlink()
    assert environments.stale(["one"]) == ["one"]


def test_a_failed_install_is_told_in_pip_s_own_words_and_tried_again_next_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, folder, one="print('Collecting'); print('ERROR: No matching distribution'); exit(1)")
    with pytest.raises(OpsError) as error:
        environments.ensure(["one"])
    message = str(error.value)
    assert "set-up of one failed" in message
    assert "| ERROR: No matching distribution" in message
    assert "Collecting" not in message
    assert "one.log" in message
    assert environments.stale(["one"]) == ["one"]


def test_when_one_install_fails_the_others_are_ended(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[subprocess.Popen[bytes]] = []

    def start(part: str, *, with_uv: bool) -> subprocess.Popen[bytes]:
        if part == "two":
            raise OpsError("cannot make a virtual environment")
        jobs.append(pip("import time; time.sleep(60)", folder / f"{part}.log"))
        return jobs[-1]

    monkeypatch.setattr(environments, "_start", start)
    with pytest.raises(OpsError, match="virtual environment"):
        environments.ensure(["one", "two"])
    assert jobs[0].poll() is not None


@pytest.mark.parametrize("version", [(3, 8, 18), (3, 9, 0), (3, 14, 0)])
def test_a_python_that_the_lock_files_are_not_for_is_refused(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(OpsError, match=r"the lock files are for 3\.10 to 3\.13"):
        environments.ensure(["one"])


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 13, 9)])
def test_the_pythons_that_the_lock_files_are_for_will_do(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, ...]
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert environments.supported() is None


def test_an_up_to_date_environment_needs_no_supported_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, folder)
    environments.ensure(["one"])
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    environments.ensure(["one"])


def fake_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A uv on PATH that says what it was asked for, and ends with ``code``."""
    program = tmp_path / "bin" / "uv"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "fake uv $*"\nexit {code}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(environments.uv, "pip_settings", dict)


def test_uv_installs_where_it_is_there(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_uv(tmp_path, monkeypatch, 0)
    environments.ensure(["one"])
    said = (folder / "one.log").read_text()
    assert said.startswith("fake uv pip install ")
    assert f"--python {folder / 'one/bin/python3'}" in said
    assert "--require-hashes" in said
    assert f"-r {tmp_path / 'one/requirements.txt'}" in said
    assert environments.stale(["one"]) == []


def test_pip_installs_where_uv_fails(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_uv(tmp_path, monkeypatch, 2)
    (tmp_path / "one" / "requirements.txt").write_text("# nothing to install\n")
    environments.ensure(["one"])
    assert "uv did not install one" in capsys.readouterr().err
    assert "fake uv" in (folder / "one.uv.log").read_text()
    assert "fake uv" not in (folder / "one.log").read_text()
    assert environments.stale(["one"]) == []


def test_pip_installs_where_uv_cannot_have_pip_s_settings(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_uv(tmp_path, monkeypatch, 2)
    monkeypatch.setattr(environments.uv, "pip_settings", lambda: {"client-cert": "mine.pem"})
    (tmp_path / "one" / "requirements.txt").write_text("# nothing to install\n")
    environments.ensure(["one"])
    assert not (folder / "one.uv.log").exists()


def test_who_has_to_wait_for_another_set_up_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started = install(monkeypatch, folder)
    folder.mkdir()
    holder = (folder / ".lock").open("w")
    fcntl.flock(holder, fcntl.LOCK_EX)
    timer = threading.Timer(0.5, holder.close)
    timer.start()
    environments.ensure(["one"])
    timer.join()
    said = capsys.readouterr().err
    assert said.count("set-up: waiting for another command, which is installing into") == 1
    assert started == ["one"]


def test_an_install_that_fails_at_once_is_seen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, folder, one="exit(1)", two="exit(1)")
    monkeypatch.setattr(environments, "_await", _slowly(environments._await))
    with pytest.raises(OpsError, match="set-up of one failed"):
        environments.ensure(["one", "two"])
    assert environments.stale(["one", "two"]) == ["one", "two"]


def _slowly(await_: Callable[..., None]) -> Callable[..., None]:
    def slow(jobs: dict[str, subprocess.Popen[bytes]], *args: float, **more: bool) -> None:
        for job in jobs.values():
            job.wait()
        await_(jobs, *args, **more)

    return slow
