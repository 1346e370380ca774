"""`./scripts/up --profile monitoring` in containers: a stand-in for Prometheus' image, and no Grafana."""

from __future__ import annotations

import json
import os
import shutil
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.compose import Project, docker, must, wait_for
from support.stack import free_ports

STANDIN = "tensorflow-triton-test/prometheus:standin"
NOWHERE = "localhost:1/grafana:none"  # a registry that is not there
PORTS = ("EXPORTER_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "GATEWAY_PORT", "GATEWAY_METRICS_PORT")


@pytest.fixture
def standin(tmp_path: Path) -> str:
    """This machine's Prometheus as an image."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("no Prometheus here: apt-get install prometheus")
    shutil.copy2(program, tmp_path / "prometheus")
    argv = [
        "--file",
        "tests/docker/standins.Dockerfile",
        "--build-arg",
        f"BASE_IMAGE={os.environ['PYTHON_IMAGE']}",
    ]
    must(docker("build", "--quiet", *argv, "--target", "prometheus", "--tag", STANDIN, tmp_path))
    return STANDIN


def test_up_with_monitoring_watches_and_goes_on_without_what_cannot_be_pulled(
    projects: Callable[..., Project], specs: Path, standin: str
) -> None:
    ports = {name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)))}
    project = projects(specs=specs, PROMETHEUS_IMAGE=standin, GRAFANA_IMAGE=NOWHERE, **ports)
    done = project.script("up", "--runtime", "docker", "--device", "cpu", "--profile", "monitoring")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "starting without grafana: its image is not here and cannot be pulled" in done.stderr
    assert "GRAFANA_IMAGE names another" in done.stderr
    page = f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}/consoles/triton-stack.html"
    assert page in done.stdout
    with urllib.request.urlopen(page, timeout=5) as answer:
        assert b"Triton stack" in answer.read()

    def query(expr: str) -> list[dict[str, Any]]:
        base = f"http://127.0.0.1:{ports['PROMETHEUS_PORT']}/api/v1/query"
        with urllib.request.urlopen(f"{base}?{urllib.parse.urlencode({'query': expr})}", timeout=5) as answer:
            return list(json.load(answer)["data"]["result"])

    for service in ("exporter", "prometheus"):
        [data] = json.loads(must(docker("inspect", project.container(service))))
        host = data["HostConfig"]
        assert host["ReadonlyRootfs"] is True
        assert host["CapDrop"] == ["ALL"]
        assert {b["HostIp"] for bindings in host["PortBindings"].values() for b in bindings} == {"127.0.0.1"}
    rows = json.loads(project.script("status", "--runtime", "docker", "--json").stdout)["services"]
    assert {row["name"]: row["state"] for row in rows} == {"exporter": "running", "prometheus": "running"}
    wait_for(lambda: len(query("up == 1")) == 2, 30, "Prometheus to have scraped Triton and the exporter")
    [ready] = query("triton_stack_model_ready")
    assert (ready["metric"]["model"], ready["metric"]["version"], ready["value"][1]) == ("scale", "1", "1")
    assert project.script("down", "--runtime", "docker").returncode == 0
    assert not docker("ps", "--all", "--quiet", "--filter", f"name={project.name}").stdout
