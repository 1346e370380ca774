"""What clients left in /dev/shm that were killed with their guards: the next one removes it, nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.stack import PACKAGES
from triton_stack_client.transport import regions, system_memory
from triton_stack_client.transport.system_memory import SystemMemory

OWNER = """
import sys, time
from pathlib import Path
from triton_stack_client.transport import system_memory
system_memory.FOLDER = Path(sys.argv[1])
memory = system_memory.SystemMemory(sys.argv[2], 4096)
print("made", flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of /dev/shm."""
    monkeypatch.setattr(system_memory, "FOLDER", tmp_path)
    return tmp_path


def owner(folder: Path, region: str) -> subprocess.Popen[str]:
    """A process that has made the region and lives."""
    command = [sys.executable, "-c", OWNER, str(folder), region]
    process = subprocess.Popen(command, env={"PYTHONPATH": PACKAGES}, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "made\n"
    return process


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.time() + seconds
    monkeypatch.setattr(system_memory, "time", SimpleNamespace(time=lambda: now))
    system_memory.remove_left_behind.cache_clear()


def test_what_a_killed_client_left_goes_and_what_a_living_one_uses_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, used, own = regions.name(), regions.name(), regions.name()
    (folder / "triton-client-of-somebody-else").touch()
    killed = owner(folder, left)
    with owner(folder, used) as living:
        killed.kill()
        killed.communicate()
        later(monkeypatch, 50)
        SystemMemory(own, 64).remove(registered=False)
        assert (folder / left).exists(), "as young as this, it may be somebody's who has not locked it yet"
        later(monkeypatch, 70)
        memory = SystemMemory(own, 64)
        assert {p.name for p in folder.iterdir()} == {used, own, "triton-client-of-somebody-else"}
        later(monkeypatch, 70)
        system_memory.remove_left_behind(folder)
        assert (folder / own).exists(), "nor does it take its own"
        memory.remove(registered=False)
        living.kill()
