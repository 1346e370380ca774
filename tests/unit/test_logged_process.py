"""Long commands: exit codes, the log, what is shown, the heartbeat, and no orphans."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.stack import ROOT

from builder.engine import logged_process
from builder.errors import EngineError


def run(code: str, folder: Path, show: object = lambda _line: True) -> int:
    return logged_process.run([sys.executable, "-c", code], cwd=folder, log=folder / "log", show=show)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", [0, 1, 77])
def test_the_exit_code_is_the_program_s(tmp_path: Path, code: int) -> None:
    assert run(f"raise SystemExit({code})", tmp_path) == code


def test_a_program_killed_by_a_signal_gives_a_negative_code(tmp_path: Path) -> None:
    assert run("import os; os.kill(os.getpid(), 9)", tmp_path) == -9


def test_both_streams_go_to_the_log_after_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    run("import sys; print('out', flush=True); print('err', file=sys.stderr)", tmp_path)
    assert (tmp_path / "log").read_text() == "before\nout\nerr\n"


def test_the_program_runs_in_the_folder(tmp_path: Path) -> None:
    run("import os; print(os.getcwd())", tmp_path)
    assert (tmp_path / "log").read_text().strip() == str(tmp_path.resolve())


def test_only_the_lines_asked_for_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("print('news'); print('noise')", tmp_path, lambda line: line == "news")
    shown = capsys.readouterr()
    assert "news" in shown.err
    assert "noise" not in shown.err
    assert shown.out == ""


def test_a_last_line_without_its_end_is_shown_and_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("print('first'); print('&&&& FAILED', end='')", tmp_path)
    assert "&&&& FAILED" in capsys.readouterr().err
    assert (tmp_path / "log").read_text() == "first\n&&&& FAILED"


def test_a_line_that_comes_in_pieces_is_one_line(tmp_path: Path) -> None:
    seen: list[str] = []
    code = "import sys, time\nfor p in ('one ', 'line\\n'): print(p, end='', flush=True); time.sleep(.1)"
    run(code, tmp_path, lambda line: bool(seen.append(line)))
    assert seen == ["one line"]


def test_bytes_that_are_no_text_do_not_stop_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(r"import sys; sys.stdout.buffer.write(b'\xff\xfe caf\xc3\xa9\n')", tmp_path) == 0
    assert "café" in capsys.readouterr().err
    assert (tmp_path / "log").read_bytes().startswith(b"\xff\xfe")


def test_more_output_than_a_pipe_holds_arrives_whole(tmp_path: Path) -> None:
    run("print('x' * 1_000_000)", tmp_path, lambda _line: False)
    assert (tmp_path / "log").stat().st_size == 1_000_001


def test_silence_is_broken_by_a_heartbeat(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged_process, "_HEARTBEAT", 0.05)
    run("import time; time.sleep(0.5)", tmp_path)
    assert "still running" in capsys.readouterr().err


def test_a_program_that_does_not_end_in_time_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        logged_process.run(
            [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"],
            cwd=tmp_path, log=tmp_path / "log", show=lambda _line: True, limit=1.0,
        )  # fmt: skip
    assert time.monotonic() - began < 20
    assert not Path(f"/proc/{(tmp_path / 'log').read_text().strip()}").exists()


def test_an_exception_here_ends_the_program(tmp_path: Path) -> None:
    pid: list[int] = []

    def stop(line: str) -> bool:
        pid.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("import os, time; print(os.getpid(), flush=True); time.sleep(60)", tmp_path, stop)
    assert not Path(f"/proc/{pid[0]}").exists()


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no-such-program cannot be started: No such file"):
        logged_process.run(["no-such-program"], cwd=tmp_path, log=tmp_path / "log", show=lambda _line: True)


def test_a_file_that_may_not_be_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("text")
    with pytest.raises(EngineError, match="plain cannot be started: Permission denied"):
        logged_process.run(
            [str(tmp_path / "plain")], cwd=tmp_path, log=tmp_path / "log", show=lambda _line: True
        )


def test_the_program_ends_with_this_process_even_when_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from builder.engine import logged_process;"
        "logged_process.run([sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True);"
        " time.sleep(60)'], cwd=Path('.'), log=Path('log'), show=lambda line: True)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", code]
    with subprocess.Popen(argv, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True) as parent:
        assert parent.stderr is not None
        pid = int(parent.stderr.readline().split()[-1])  # after the progress's clock
        assert Path(f"/proc/{pid}").exists()
        parent.kill()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid}").exists()


def test_an_exception_here_ends_the_program_s_own_children(tmp_path: Path) -> None:
    """A trtexec that is a script of two lines."""
    pid: list[int] = []

    def stop(line: str) -> bool:
        pid.append(int(line))
        raise KeyboardInterrupt

    argv = ["/bin/sh", "-c", "sleep 60 & echo $!; wait"]
    with pytest.raises(KeyboardInterrupt):
        logged_process.run(argv, cwd=tmp_path, log=tmp_path / "log", show=stop)
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid[0]}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not Path(f"/proc/{pid[0]}").exists()
