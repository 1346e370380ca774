"""Two checkouts on one engine, and a server whose ports came from somebody's environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from support.compose import Project, docker, must
from support.stack import ROOT, free_ports


def checkout(folder: Path) -> Path:
    """What the scripts need of a second checkout."""
    files = [
        "scripts",
        "models_volume",
        "builder",
        "client",
        "triton",
        "gateway",
        "monitoring",
        "compose.yaml",
        "compose.cpu.yaml",
        "compose.gateway.yaml",
        ".env",
    ]
    folder.mkdir()
    subprocess.run(["cp", "-a", *files, str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.mark.timeout(600)
def test_two_checkouts_with_one_project_name_are_told_apart(project: Project, tmp_path: Path) -> None:
    must(project.script("up", "--runtime", "docker", "--device", "cpu", "--no-setup"))
    other = checkout(tmp_path / "other")
    for script in ("status", "down", "redeploy"):
        argv = [str(other / "scripts" / script), "--runtime", "docker"]
        done = subprocess.run(argv, env=project.env, cwd=other, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"is of the checkout in {ROOT}" in done.stderr
        assert "COMPOSE_PROJECT_NAME=" in done.stderr
    must(project.script("down", "--runtime", "docker"))
    argv = [str(other / "scripts" / "up"), "--runtime", "docker", "--device", "cpu", "--no-setup"]
    done = subprocess.run(argv, env=project.env, cwd=other, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"the volume {project.name}_models is of the checkout in {ROOT}" in done.stderr
    assert json.loads(must(docker("volume", "inspect", f"{project.name}_models")))


@pytest.mark.timeout(600)
def test_status_finds_the_server_whose_ports_came_from_the_environment(project: Project) -> None:
    must(project.script("up", "--runtime", "docker", "--device", "cpu", "--no-setup"))
    ports = dict(zip(("HTTP_PORT", "GRPC_PORT", "METRICS_PORT"), map(str, free_ports(3))))
    status = json.loads(project.script("status", "--runtime", "docker", "--json", **ports).stdout)
    assert status["server"]["state"] == "running"
    assert status["server"]["http"] == f"127.0.0.1:{project.http}"
    assert status["models"][0]["ready"] is True
