"""`classify` when its server is killed and comes back, goes for good, or when it is killed itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.pictures import BLUE, GREEN, RED, plain, write_colours
from support.stack import ROOT, Stack
from triton_stack_client import Model
from triton_stack_client.errors import ClientError
from triton_stack_client.transport import system_memory

SHM = Path("/dev/shm")  # noqa: S108  (where the server looks)
COLOURS = {"red": RED, "green": GREEN, "blue": BLUE}


@pytest.fixture
def colours(stack: Stack, tmp_path: Path) -> Path:
    """The spec of the served model; pictures of 512 x 512 keep a run going for some seconds."""
    spec = write_colours(tmp_path / "spec", side=512)
    stack.up(spec)
    return spec


@pytest.fixture
def folder(tmp_path: Path) -> tuple[Path, list[str]]:
    """400 pictures (links to three files) and the colour each shows."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in COLOURS.items():
        plain(900, 700, colour).save(tmp_path / f"{name}.jpg", quality=95)
    shows = [list(COLOURS)[n * n % 3] for n in range(400)]
    for n, name in enumerate(shows):
        (folder / f"{n:04}.jpg").symlink_to(tmp_path / f"{name}.jpg")
    return folder, shows


def start(stack: Stack, folder: Path, out: Path, *args: str) -> subprocess.Popen[bytes]:
    """`classify --json` of the folder, its answers written to ``out`` as they come."""
    command = [str(ROOT / "scripts" / "classify"), str(folder), "--model", "colours", "--json", "--top", "1"]
    with out.open("wb") as file:
        env = {**stack.env, "PYTHONUNBUFFERED": "1"}
        return subprocess.Popen(
            [*command, *args], env=env, stdout=file, stderr=subprocess.PIPE, start_new_session=True
        )


def wait_for(lines: int, out: Path) -> None:
    deadline = time.monotonic() + 60
    while out.read_bytes().count(b"\n") < lines:
        assert time.monotonic() < deadline, out.read_text()
        time.sleep(0.02)


def registered(stack: Stack) -> list[Any]:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{stack.http}/v2/systemsharedmemory/status", timeout=5
    ) as answer:
        return list(json.load(answer))


def regions() -> set[str]:
    return {p.name for p in SHM.iterdir()}


def mapped(pid: int) -> set[str]:
    """The shared memory that a process has mapped."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split()[-1]).name for line in lines if f" {SHM}/" in line}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_server_killed_and_restarted_costs_no_picture(
    stack: Stack,
    colours: Path,
    folder: tuple[Path, list[str]],
    tmp_path: Path,
    client_memory: Callable[[], set[str]],
    protocol: str,
) -> None:
    pictures, shows = folder
    out = tmp_path / "out.json"
    args = ("--batch", "4", "--protocol", protocol, "--shared-memory", "system", "--timeout", "90")
    run = start(stack, pictures, out, *args)
    wait_for(60, out)
    assert registered(stack), "it was meant to use shared memory"
    pid = stack.status()["server"]["pid"]
    servers = mapped(pid)
    assert servers & regions()
    os.kill(pid, signal.SIGKILL)
    answered = out.read_bytes().count(b"\n")
    assert answered < len(shows), "it was meant to be killed in mid-run"
    time.sleep(1)
    stack.run("up", "--runtime", "native", "--device", "cpu", "--model", colours)
    assert stack.status()["server"]["state"] == "running"
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0, err
    found = [r["top"][0]["label"] for r in json.loads(out.read_text())["results"]]
    assert found == shows
    assert not client_memory()
    assert registered(stack) == []
    # Nor does the killed server's own stay, once another has started in its place.
    assert not servers & regions()


@pytest.mark.timeout(120)
def test_a_server_that_stays_away_is_said_within_the_timeout(
    stack: Stack,
    colours: Path,
    folder: tuple[Path, list[str]],
    tmp_path: Path,
    client_memory: Callable[[], set[str]],
) -> None:
    pictures, shows = folder
    out = tmp_path / "out.json"
    run = start(stack, pictures, out, "--batch", "4", "--timeout", "5", "--shared-memory", "system")
    wait_for(60, out)
    os.kill(stack.status()["server"]["pid"], signal.SIGKILL)
    began = time.monotonic()
    _, err = run.communicate(timeout=60)
    assert time.monotonic() - began < 15
    assert run.returncode == 1
    rows = json.loads(out.read_text())["results"]
    assert len(rows) == len(shows)
    good = [r for r in rows if "top" in r]
    assert 60 <= len(good) + 1 < len(shows)
    failed = [r for r in rows if "error" in r]
    assert len(good) + len(failed) == len(rows)
    for row in failed:
        assert f"127.0.0.1:{stack.grpc}" in row["error"]
        assert Path(row["file"]).name in err.decode()
    assert not client_memory()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_client_that_is_killed_leaves_no_shared_memory(
    stack: Stack,
    colours: Path,
    folder: tuple[Path, list[str]],
    tmp_path: Path,
    client_memory: Callable[[], set[str]],
    how: signal.Signals,
) -> None:
    pictures, _ = folder
    out = tmp_path / "out.json"
    run = start(stack, pictures, out, "--batch", "4", "--shared-memory", "system")
    wait_for(40, out)
    assert registered(stack)
    os.killpg(run.pid, how)
    run.communicate(timeout=30)
    deadline = time.monotonic() + 15
    while registered(stack) or client_memory():
        assert time.monotonic() < deadline, (registered(stack), client_memory())
        time.sleep(0.1)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_where_the_server_cannot_open_our_memory_tensors_travel_with_the_request(
    stack: Stack, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    # As in two containers that share a host's loopback, but not its /dev/shm.
    monkeypatch.setattr(system_memory, "FOLDER", tmp_path)
    batch = np.full((2, 512, 512, 3), 7, np.uint8)
    url = f"{protocol}://127.0.0.1:{stack.grpc if protocol == 'grpc' else stack.http}"
    with Model("colours", url=url, shared_memory="auto") as model:
        np.testing.assert_allclose(model.predict(batch), np.full((2, 3), 7), rtol=1e-5)
    refused = pytest.raises(ClientError, match="cannot share memory with us")
    with Model("colours", url=url, shared_memory="system") as model, refused:
        model.predict(batch)
    assert registered(stack) == []
    assert not list(tmp_path.glob("triton-client-*"))
