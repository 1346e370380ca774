"""TRITON_COUNT=2 in containers: each takes a number (here there are no GPUs), and both are proven."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from support.compose import Project, docker, must
from support.models import write_scale
from support.stack import free_ports


def test_two_servers_are_started_proven_and_named(
    projects: Callable[..., Project], specs: Path, tmp_path: Path
) -> None:
    port, metrics = free_ports(2)
    project = projects(
        specs=specs,
        TRITON_COUNT="2",
        TRITON_ID="box",
        GATEWAY_PORT=str(port),
        GATEWAY_METRICS_PORT=str(metrics),
        GATEWAY_ADDRESS="127.0.0.1",
        KEYS_FILE=str(tmp_path / "secrets" / "keys"),
    )
    up = ("up", "--runtime", "docker", "--device", "cpu")
    refused = project.script(*up)
    assert refused.returncode == 1
    assert "TRITON_COUNT is 2" in refused.stderr
    done = project.script(*up, "--profile", "gateway")
    assert done.returncode == 0, done.stdout + done.stderr
    logs = must(project.compose("logs", "triton"))
    assert "box-gpu0 takes GPU 0" in logs
    assert "box-gpu1 takes GPU 1" in logs
    found = json.loads(project.script("status", "--runtime", "docker", "--json").stdout)
    assert [row["state"] for row in found["servers"]] == ["running", "running"]
    assert all(row["not_ready"] == [] for row in found["servers"])

    spec = write_scale(tmp_path / "other", factor=3.0)
    done = project.script("redeploy", "--runtime", "docker", "--model", spec)
    assert done.returncode == 0, done.stderr
    second = found["servers"][1]["name"]
    must(docker("stop", "--time", "1", second))
    refused = project.script("rollback", "--runtime", "docker")
    assert refused.returncode == 1
    assert second in refused.stderr
    done = project.script(*up, "--model", spec)
    assert done.returncode == 0, done.stderr
    found = json.loads(project.script("status", "--runtime", "docker", "--json").stdout)
    assert [row["state"] for row in found["servers"]] == ["running", "running"]
