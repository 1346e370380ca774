"""The same verbs with Docker: up, status, down and doctor."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.compose import Project, docker, must, readable
from support.models import write_scale


def findings(project: Project, **environ: str) -> dict[str, dict[str, Any]]:
    done = project.script("doctor", "--json", "--runtime", "docker", "--device", "cpu", **environ)
    return {f["name"]: {**f, "code": done.returncode} for f in json.loads(done.stdout)}


def test_up_status_and_down(projects: Callable[..., Project], tmp_path: Path) -> None:
    project = projects()
    spec = write_scale(tmp_path / "own models", weights="untrained")
    readable(spec.parent)
    up = ("up", "--runtime", "docker", "--device", "cpu", "--model", spec)
    done = project.script(*up)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "running docker, as asked" in done.stderr
    assert "Triton is serving scale (version 1)" in done.stdout
    assert "scale: weights are untrained" in done.stdout
    data = json.loads(must(project.script("status", "--json")))
    assert (data["runtime"], data["device"], data["server"]["state"]) == ("docker", "cpu", "running")
    assert data["server"]["container"] == project.container("triton")
    [model] = data["models"]
    assert (model["name"], model["live"], model["ready"], model["releases"]) == ("scale", 1, True, [1])
    assert model["weights"]["untrained"] is True
    assert model["engine"]["name"] == "onnxruntime"
    again = project.script(*up)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing is built" in again.stderr
    stopped = must(project.script("down"))
    assert project.container("triton") in stopped
    assert not docker("ps", "--all", "--quiet", "--filter", f"name={project.name}").stdout
    after = json.loads(project.script("status", "--json", "--runtime", "docker").stdout)
    assert after["server"]["state"] == "stopped"
    assert [(m["live"], m["ready"]) for m in after["models"]] == [(1, False)]
    assert "nothing was running" in must(project.script("down", "--runtime", "docker"))


def test_up_refuses_a_spec_that_the_container_cannot_read(
    projects: Callable[..., Project], tmp_path: Path
) -> None:
    spec = write_scale(tmp_path / "private")
    spec.parent.chmod(0o700)
    done = projects().script("up", "--runtime", "docker", "--device", "cpu", "--model", spec)
    assert done.returncode == 1
    assert f"{spec.parent} cannot be read by user 1000" in done.stderr
    assert "chmod" in done.stderr


def test_up_tells_the_builders_reason(projects: Callable[..., Project], tmp_path: Path) -> None:
    project = projects()
    spec = write_scale(tmp_path / "spec")
    spec.write_text(spec.read_text().replace("precision: fp32", "precision: fp8"))
    readable(spec.parent)
    done = project.script("up", "--runtime", "docker", "--device", "cpu", "--model", spec)
    assert done.returncode == 1
    assert "scale.yaml: precision: found 'fp8'" in done.stderr
    assert project.snapshot() == {}


def test_a_taken_port_is_found_before_anything_is_started(project: Project) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", project.grpc))
        s.listen()
        done = project.script("up", "--runtime", "docker", "--device", "cpu")
        found = findings(project)["ports"]
    assert done.returncode == 1
    assert f"port {project.grpc} (GRPC_PORT) cannot be used" in done.stderr
    assert found["level"] == "fail"
    assert found["code"] == 1
    assert not docker("ps", "--all", "--quiet", "--filter", f"name={project.name}").stdout


def test_doctor_is_content_with_this_machine(project: Project) -> None:
    found = findings(project)
    assert {n for n, f in found.items() if f["level"] == "fail"} == set()
    assert found["base images"]["detail"] == os.environ.get("PYTHON_IMAGE", "python:3.12-slim-bookworm")


def test_doctor_names_a_volume_that_the_builder_cannot_write(project: Project) -> None:
    name = f"{project.name}_models"
    label = f"com.docker.compose.project={project.name}"
    must(docker("volume", "create", "--label", label, "--label", "com.docker.compose.volume=models", name))
    found = findings(project)["Docker volume"]
    assert (found["level"], found["code"]) == ("fail", 1)
    assert "belongs to user 0" in found["detail"]
    assert f"{name}:/models" in found["remedy"]
    remedy = found["remedy"].partition(": ")[2].split()
    must(docker(*remedy[1:]))
    assert findings(project)["Docker volume"]["level"] == "ok"


def test_up_refuses_a_grace_period_that_is_too_short(project: Project) -> None:
    done = project.script("up", "--runtime", "docker", "--device", "cpu", STOP_GRACE_SECS="10")
    assert done.returncode == 1
    assert "STOP_GRACE_SECS" in done.stderr
    assert "45" in done.stderr
