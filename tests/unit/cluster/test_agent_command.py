"""How the agent is started: its settings, and what is told before it looks around."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.stack import PACKAGES, ROOT, free_ports

from cluster.agent import command
from cluster.errors import ClusterError


def test_a_node_is_called_as_it_is_told_or_as_its_server_or_as_the_host() -> None:
    assert command.name({"NODE_NAME": "a", "TRITON_ID": "b"}) == "a"
    assert command.name({"TRITON_ID": "b"}) == "b"
    assert command.name({}) == os.uname().nodename


@pytest.mark.parametrize("text", ["a b", "-a", "ä", "a/b", "a" * 101])
def test_a_name_that_no_tag_can_hold_is_refused(text: str) -> None:
    with pytest.raises(ClusterError, match="NODE_NAME"):
        command.name({"NODE_NAME": text})


def test_its_models_are_those_that_are_named_or_those_that_are_here(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="AGENT_MODELS is empty"):
        command.models({}, tmp_path)
    (tmp_path / "releases" / "here").mkdir(parents=True)
    assert command.models({}, tmp_path) == ["here"]
    assert command.models({}, tmp_path / "none", needed=False) == []
    assert command.models({"AGENT_MODELS": "a, b  c"}, tmp_path) == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["0", "-1", "x", "3601", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    assert command.seconds({}, "AGENT_SECS", 5) == 5
    assert command.seconds({"AGENT_SECS": "0.5"}, "AGENT_SECS", 5) == 0.5
    with pytest.raises(ClusterError, match="AGENT_SECS"):
        command.seconds({"AGENT_SECS": text}, "AGENT_SECS", 5)


def environment(folder: Path, **more: str) -> dict[str, str]:
    path = f"{PACKAGES}{os.pathsep}{ROOT / 'scripts'}"
    return {**os.environ, "PYTHONPATH": path, "MODELS_DIR": str(folder), "ENGINE": "onnxruntime", **more}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"REGISTRY": ""}, "no registry is set"),
        ({"NODE_NAME": "a b"}, "NODE_NAME"),
        ({"TRITON_SERVERS": "nowhere"}, "TRITON_SERVERS"),
        ({"AGENT_SECS": "no"}, "AGENT_SECS"),
        ({"AGENT_MODELS": "Ä"}, "a registry does not take"),
        ({"HTTP_PORT": "x"}, "HTTP_PORT"),
    ],
)
def test_a_wrong_setting_ends_it_in_words(tmp_path: Path, more: dict[str, str], words: str) -> None:
    base = {"REGISTRY": "127.0.0.1:1", "NODE_NAME": "n", "AGENT_MODELS": "m"}
    done = subprocess.run(
        [sys.executable, "-m", "cluster", "agent"],
        cwd=ROOT, env=environment(tmp_path, **{**base, **more}), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_without_registry_and_server_it_lives_is_healthy_and_ends_when_told(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    more = {"REGISTRY": f"127.0.0.1:{port}", "NODE_NAME": "n", "AGENT_MODELS": "m", "AGENT_SECS": "0.2"}
    env = environment(tmp_path, **more)
    healthy = [sys.executable, "-m", "cluster", "agent", "--healthy"]
    assert subprocess.run(healthy, cwd=ROOT, env=env, capture_output=True, check=False).returncode == 1
    argv = [sys.executable, "-m", "cluster", "agent"]
    with subprocess.Popen(argv, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as running:
        end = time.monotonic() + 60
        while not (tmp_path / "cluster" / "agent.beat").exists() and time.monotonic() < end:
            time.sleep(0.1)
        assert subprocess.run(healthy, cwd=ROOT, env=env, check=False).returncode == 0
        running.send_signal(signal.SIGTERM)
        _, said = running.communicate(timeout=30)
        assert running.returncode == 0
    events: list[dict[str, Any]] = [json.loads(line) for line in said.splitlines()]
    assert [e["event"] for e in events] == ["started", "registry_down", "ended"]
