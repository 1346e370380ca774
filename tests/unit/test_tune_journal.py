"""The journal of a tuning run: whole steps are kept, half ones are not, and foreign ones are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ops.errors import OpsError
from ops.tune.journal import Clock, Journal
from ops.tune.measure import memory
from support.stack import ROOT

IDENTITY = {"spec": "abc", "clients": [1, 64], "latency_budget_ms": None}


def test_a_step_is_done_once_over_all_sessions(tmp_path: Path) -> None:
    calls: list[str] = []

    def measured(name: str) -> dict[str, float]:
        calls.append(name)
        return {"rate": 2.5}

    first = Journal(tmp_path / "j", IDENTITY, resume=False)
    assert first.once("a", lambda: measured("a")) == {"rate": 2.5}
    assert first.steps == 1
    second = Journal(tmp_path / "j", IDENTITY, resume=True)
    assert second.resumed == 1
    assert second.once("a", lambda: measured("a")) == {"rate": 2.5}
    assert second.once("b", lambda: measured("b")) == {"rate": 2.5}
    assert calls == ["a", "b"]


def test_the_time_of_earlier_sessions_counts(tmp_path: Path) -> None:
    Journal(tmp_path / "j", IDENTITY, resume=False).once("a", lambda: 1)
    lines = (tmp_path / "j").read_text().splitlines()
    lines[1] = json.dumps({**json.loads(lines[1]), "used": 50.0})
    (tmp_path / "j").write_text("\n".join(lines) + "\n")
    journal = Journal(tmp_path / "j", IDENTITY, resume=True)
    assert 9 < Clock(journal, 60).left() <= 10


def test_half_a_line_is_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", IDENTITY, resume=False)
    journal.once("a", lambda: 1)
    with (tmp_path / "j").open("a") as f:
        f.write('{"step": "b", "val')
    again = Journal(tmp_path / "j", IDENTITY, resume=True)
    assert not again.known("b")
    assert again.once("b", lambda: 2) == 2
    assert Journal(tmp_path / "j", IDENTITY, resume=True).once("b", lambda: 3) == 2


@pytest.mark.parametrize("key", IDENTITY)
def test_what_belongs_to_something_else_is_refused_with_the_reason(tmp_path: Path, key: str) -> None:
    Journal(tmp_path / "j", IDENTITY, resume=False)
    with pytest.raises(OpsError, match="does not compare") as e:
        Journal(tmp_path / "j", {**IDENTITY, key: "other"}, resume=True)
    assert f"{key}: {IDENTITY[key]} then, other now" in e.value.details


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(OpsError, match="nothing to resume"):
        Journal(tmp_path / "j", IDENTITY, resume=True)


def test_too_little_memory_is_refused_with_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "ask", lambda _argv: "1500\n")
    memory.check("gpu", "0", 50 << 20, 2)  # 600 + 2 x (2 x 3 x 50 + 16) MiB
    with pytest.raises(OpsError, match="1500 MiB are free on GPU 0") as e:
        memory.check("gpu", "0", 100 << 20, 2)
    assert e.value.expected.startswith("1832 MiB")
    monkeypatch.setattr(memory, "ask", lambda _argv: "[N/A]")
    memory.check("gpu", "0", 1 << 40, 2)  # a GPU that does not tell
    real = memory.free_mib("cpu", "")
    assert real is not None
    with pytest.raises(OpsError, match="of this machine's memory"):
        memory.check("cpu", "", (real + 1) << 20, 1)


def test_the_keeper_ends_its_server_and_removes_its_folder(tmp_path: Path) -> None:
    """However its parent ends: here it just closes the pipe."""
    job = {
        "argv": ["sleep", "1000"], "log": str(tmp_path / "log"), "nice": 3,
        "folder": str(tmp_path / "server"), "backends": None,
    }  # fmt: skip
    keeper = subprocess.Popen(
        [sys.executable, "-I", str(ROOT / "scripts/ops/tune/measure/keeper.py")],
        stdin=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert keeper.stdin is not None
    keeper.stdin.write(json.dumps(job) + "\n")
    keeper.stdin.flush()
    children = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children")
    while not children.read_text().split():
        assert keeper.poll() is None
    child = int(children.read_text().split()[0])
    while b"sleep" not in Path(f"/proc/{child}/cmdline").read_bytes():
        pass
    assert os.getpriority(os.PRIO_PROCESS, child) == os.getpriority(os.PRIO_PROCESS, 0) + 3
    assert (tmp_path / "server").is_dir()
    keeper.stdin.close()
    keeper.wait(10)
    assert not Path(f"/proc/{child}").exists()
    assert not (tmp_path / "server").exists()
