"""Triton killed under load, and the engine restarted under everything."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from support.compose import Project, docker, must, wait_for
from support.stack import ROOT

KILL_TRITON = """
import os, pathlib, signal
for p in pathlib.Path("/proc").iterdir():
    if p.name.isdigit() and (p / "comm").read_text().strip() == "tritonserver":
        os.kill(int(p.name), signal.SIGKILL)
"""


class Load:
    """Four clients that ask `scale` for twice its input, for a while; counts right, wrong and no answers."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/v2/models/scale/infer"
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(4)]
        self.right = self.wrong = self.failed = 0

    def _ask(self) -> None:
        values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
        body = {"inputs": [{"name": "x", "shape": [1, 6], "datatype": "FP32", "data": values}]}
        until = time.monotonic() + 60
        while not self._stop.is_set() and time.monotonic() < until:
            request = urllib.request.Request(self._url, json.dumps(body).encode())
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    data = json.load(answer)["outputs"][0]["data"]
            except (OSError, ValueError):
                self.failed += 1
                time.sleep(0.05)
                continue
            if data == [2 * v for v in values]:
                self.right += 1
            else:
                self.wrong += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def answers_again(self) -> bool:
        """Whether ten more requests were answered."""
        before = self.right
        time.sleep(0.5)
        return self.right >= before + 10


def served(project: Project) -> None:
    must(project.compose("up", "--detach"))
    assert project.exit_code("client") == 0, project.logs("client")


def smoke(project: Project) -> None:
    done = project.compose("run", "--rm", "--no-deps", "-T", "client")
    assert done.returncode == 0, done.stdout + done.stderr


def test_triton_that_dies_under_load_is_back_by_itself(project: Project) -> None:
    served(project)
    with Load(project.http) as load:
        wait_for(load.answers_again, 10, "the load to begin")
        done = docker("exec", project.container("triton"), "python3", "-c", KILL_TRITON)
        assert done.returncode in {0, 137}, done.stderr  # 137 when the container's end ends this, too
        wait_for(lambda: load.failed > 0, 10, "the load to notice")
        seconds = wait_for(load.answers_again, 30, "Docker's restart policy")
    print(f"Triton killed under load answers again after {seconds:.1f} s, {load.failed} requests failed")
    assert load.wrong == 0
    assert project.snapshot()["scale"]["live"] == 1
    assert int(must(docker("inspect", "--format", "{{.RestartCount}}", project.container("triton")))) == 1


def test_triton_that_docker_kill_ends_under_load_is_back_with_the_next_up(project: Project) -> None:
    """Docker takes a `docker kill` for the operator's wish, so no restart policy brings it back."""
    served(project)
    with Load(project.http) as load:
        wait_for(load.answers_again, 10, "the load to begin")
        must(docker("kill", project.container("triton")))
        wait_for(lambda: load.failed > 0, 10, "the load to notice")
        must(project.compose("up", "--detach", "triton"))
        seconds = wait_for(load.answers_again, 15, "the server to answer")
    print(f"Triton after docker kill and up answers again after {seconds:.1f} s")
    assert load.wrong == 0
    smoke(project)
    assert project.snapshot()["scale"]["releases"] == [1]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_restart_of_the_engine(project: Project, how: str) -> None:
    state = Path(os.environ.get("CI_ENGINE_STATE") or Path.home() / ".cache" / "ci-engine")
    if not (state / "dockerd.pid").is_file():
        pytest.skip("the engine was not started by .ci/engine, so it is not the tests' to restart")
    others = must(docker("ps", "--format", "{{.Names}}")).split()
    if others:
        pytest.skip(f"containers that are not the test's run on this engine: {', '.join(others)}")
    served(project)
    started = project.state("triton")["StartedAt"]
    for verb in (how, "start"):
        subprocess.run([ROOT / ".ci" / "engine", verb], check=True, timeout=180)
    seconds = wait_for(lambda: project.ready("scale", 1), 60, "the server to come back by itself")
    print(f".ci/engine {how} and start: the model answers again {seconds:.1f} s after the engine")
    wait_for(lambda: project.health() == "healthy", 30, "the server to be healthy")
    assert project.state("triton")["StartedAt"] > started
    assert project.state("builder")["Status"] == "exited", "a one-shot stays ended"
    smoke(project)
    assert project.snapshot()["scale"]["releases"] == [1]
