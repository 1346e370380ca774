"""`./scripts/up --profile gateway` in containers: the gateway is the only way in."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from support.compose import Project, docker, must, wait_for
from support.stack import free_ports


def curl(url: str, key: str, *more: str) -> tuple[int, str]:
    """What the README shows; the status, and the body."""
    argv = ["curl", "--silent", "--insecure", "--write-out", "\n%{http_code}", url]
    argv += ["-H", f"Authorization: Bearer {key}", *more]
    body, _, status = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.rpartition(
        "\n"
    )
    return int(status), body


def test_up_with_the_gateway_answers_curl_and_publishes_nothing_else(
    projects: Callable[..., Project], specs: Path, tmp_path: Path
) -> None:
    port, metrics = free_ports(2)
    project = projects(
        specs=specs,
        GATEWAY_PORT=str(port),
        GATEWAY_METRICS_PORT=str(metrics),
        GATEWAY_ADDRESS="127.0.0.1",
        KEYS_FILE=str(tmp_path / "secrets" / "keys"),
    )
    up = ("up", "--runtime", "docker", "--device", "cpu")
    done = project.script(*up, "--profile", "gateway")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"https://127.0.0.1:{port}" in done.stdout
    key = project.script("keys", "add", "tester").stdout.strip()
    url = f"https://127.0.0.1:{port}/v2/models/scale"
    wait_for(lambda: curl(url, key)[0] == 200, 5, "the key to work")
    given = {"name": "x", "datatype": "FP32", "shape": [1, 6], "data": [1, 2, 3, 4, 5, 6]}
    status, body = curl(f"{url}/infer", key, "-d", json.dumps({"inputs": [given]}))
    assert (status, json.loads(body)["outputs"][0]["data"]) == (200, [2, 4, 6, 8, 10, 12])
    assert curl(f"{url}/infer", key, "-d", '{"inputs": []}')[0] == 400
    assert not must(docker("port", project.container("triton"))).strip(), "Triton is behind the gateway alone"

    found = json.loads(project.script("status", "--runtime", "docker", "--json").stdout)
    running = {s["name"]: s["state"] for s in found["services"]}
    assert running == {"pictures": "running", "shadow": "running", "gateway": "running"}
    assert found["server"]["state"] == "running"
    assert found["models"][0]["ready"] is True

    again = project.script(*up)
    assert again.returncode == 0, again.stderr
    assert curl(url, key)[0] == 200, "without the option, what runs goes on running"
    assert not must(docker("port", project.container("triton"))).strip()

    project.script("keys", "revoke", "tester")
    wait_for(lambda: curl(url, key)[0] == 401, 5, "the key to be revoked")
    log = [json.loads(line) for line in project.logs("gateway").splitlines() if line.startswith("{")]
    assert {(line["key"], line["model"], line["status"]) for line in log} >= {("tester", "scale", 200)}
    done = project.script("down", "--runtime", "docker")
    assert done.returncode == 0, done.stderr
    assert not docker("ps", "--all", "--quiet", "--filter", f"name={project.name}").stdout
