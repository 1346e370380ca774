"""The native server's process: started, found again, stopped, and never mistaken for another."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.errors import OpsError
from ops.runtimes.process import ServerProcess

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    process = ServerProcess(tmp_path / "run")
    yield process
    state = process.state()
    if state is not None:
        os.kill(state["pid"], signal.SIGKILL)
        os.waitpid(state["pid"], 0)


def start(server: ServerProcess, argv: list[str]) -> int:
    server.start(argv, dict(os.environ), {"device": "cpu"})
    deadline = time.monotonic() + 10
    while "up" not in server.log_tail() and time.monotonic() < deadline:
        time.sleep(0.01)
    state = server.state()
    assert state is not None
    return int(state["pid"])


def test_nothing_runs_before_it_is_started(server: ServerProcess) -> None:
    assert server.state() is None
    assert server.stop(1) is None


def test_a_started_server_is_found_again_by_another_script(server: ServerProcess, tmp_path: Path) -> None:
    pid = start(server, SLEEP)
    state = ServerProcess(tmp_path / "run").state()
    assert state is not None
    assert (state["pid"], state["device"]) == (pid, "cpu")


def test_its_session_is_its_own_so_that_ctrl_c_here_does_not_reach_it(server: ServerProcess) -> None:
    pid = start(server, SLEEP)
    assert os.getsid(pid) == pid


def test_stopping_ends_it_and_forgets_it(server: ServerProcess) -> None:
    pid = start(server, SLEEP)
    assert server.stop(5) == pid
    assert not Path(f"/proc/{pid}").exists()
    assert server.state() is None
    assert server.stop(5) is None


def test_one_that_does_not_listen_is_killed_after_the_deadline_and_that_is_told(
    server: ServerProcess,
) -> None:
    pid = start(server, DEAF)
    began = time.monotonic()
    with pytest.raises(OpsError, match=f"process {pid}.* was killed"):
        server.stop(0.3)
    assert 0.3 <= time.monotonic() - began < 3
    os.waitpid(pid, 0)
    assert server.state() is None


def test_one_that_died_is_not_running(server: ServerProcess) -> None:
    pid = start(server, SLEEP)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while server.state() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.state() is None


def test_a_stranger_with_the_same_number_is_left_alone(server: ServerProcess, tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
    try:
        (tmp_path / "run").mkdir()
        state = tmp_path / "run" / "server.json"
        state.write_text(json.dumps({"pid": stranger.pid, "started": "12345", "device": "cpu"}))
        assert server.state() is None
        assert server.stop(1) is None
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}', '{"pid": null}', '{"pid": 1}'])
def test_a_state_file_that_makes_no_sense_means_nothing_runs(
    server: ServerProcess, tmp_path: Path, text: str
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "server.json").write_text(text)
    assert server.state() is None


def test_a_server_that_cannot_be_remembered_does_not_run(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "run" / "server.new").mkdir(parents=True)  # where the state would be written
    with pytest.raises(OSError, match="Is a directory"):
        server.start(["/bin/sh", "-c", f"echo $$ > {tmp_path}/pid; sleep 60"], dict(os.environ), {})
    time.sleep(0.2)
    pid = (tmp_path / "pid").read_text().strip() if (tmp_path / "pid").exists() else ""
    assert not Path(f"/proc/{pid or 'none'}").exists()


def test_the_tail_of_a_long_log_is_whole_lines(server: ServerProcess) -> None:
    server.log.parent.mkdir()
    server.log.write_text("".join(f"I line {n} {'x' * 90}\n" for n in range(5000)))
    tail = server.log_tail()
    assert 100 < len(tail) < 1000
    assert tail[0].startswith("I line ")
    assert tail[-1].startswith("I line 4999 ")


def test_the_log_of_a_server_that_crashed_outlives_the_next_starts(server: ServerProcess) -> None:
    for n in range(5):
        assert server.crashed() == (n > 0)
        server.start([sys.executable, "-c", f"print('up'); print('words of {n}')"], dict(os.environ), {})
        deadline = time.monotonic() + 10
        while server.state() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
    logs = sorted(server.log.parent.glob("triton.log*"))
    assert [log.name for log in logs] == ["triton.log", "triton.log.1", "triton.log.2", "triton.log.3"]
    assert [log.read_text().splitlines()[-1] for log in logs] == [f"words of {n}" for n in (4, 3, 2, 1)]


def test_one_that_was_stopped_has_not_crashed(server: ServerProcess) -> None:
    start(server, SLEEP)
    assert not server.crashed()
    server.stop(5)
    assert not server.crashed()


def test_a_log_that_is_not_there_has_no_end(server: ServerProcess) -> None:
    assert server.log_tail() == []
