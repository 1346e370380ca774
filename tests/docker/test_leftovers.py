"""A driver stopped at a random moment of a redeploy leaves no container that changes something later."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ops.runtimes import driver
from support.compose import Project, docker, must, readable, wait_for
from support.models import write_scale
from support.stack import ROOT

ROUNDS = 3  # of each signal


def one_offs(project: Project) -> list[str]:
    labels = [f"label=com.docker.compose.project={project.name}", "label=com.docker.compose.oneoff=True"]
    filters = [word for label in labels for word in ("--filter", label)]
    return must(docker("ps", "--all", *filters, "--format", "{{.Names}}")).split()


def state(project: Project) -> dict[str, Any]:
    model = project.snapshot()["scale"]
    return {"live": model["live"], "pending": model["pending"]}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_goes_live_by_itself_after_its_driver_is_gone(
    project: Project, how: signal.Signals, tmp_path: Path
) -> None:
    seed = random.randrange(10**6)
    rng = random.Random(seed)
    print(f"seed {seed}")
    must(project.script("up", "--runtime", "docker", "--device", "cpu"))
    for n in range(ROUNDS):
        spec = write_scale(tmp_path / str(n), factor=n + 3.0)
        readable(spec.parent)
        process = subprocess.Popen(
            [str(ROOT / "scripts" / "redeploy"), "--runtime", "docker", "--model", str(spec)],
            env=project.env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(rng.uniform(0.5, 8))
        process.send_signal(how)
        process.wait(120)
        wait_for(lambda: not one_offs(project), 10, f"seed {seed}, round {n}: containers of the dead driver")
        before = state(project)
        time.sleep(5)
        assert state(project) == before, f"seed {seed}, round {n}"
        if how != signal.SIGKILL:
            assert not before["pending"], f"seed {seed}, round {n}: it went the way back"
    must(project.script("redeploy", "--runtime", "docker", "--model", spec))
    assert not state(project)["pending"]


def test_a_deaf_container_of_a_dead_driver_is_ended_by_the_next_command(project: Project) -> None:
    must(project.compose("build", "--quiet", "client"))
    here, pid, _ = driver.me().rsplit(" ", 2)
    for name, started in (("dead", "1"), ("alive", driver.me().rsplit(" ", 1)[1])):
        label = f"{driver.LABEL}={here} {pid} {started}"
        run = ["run", "--detach", "--no-deps", "--name", f"{project.name}-{name}", "--label", label]
        must(project.compose(*run, "--entrypoint", "sleep", "client", "60"))
    done = project.script("status", "--runtime", "docker")
    assert f"ending {project.name}-dead, left by a command that was killed" in done.stderr
    assert one_offs(project) == [f"{project.name}-alive"]
    must(docker("rm", "--force", f"{project.name}-alive"))
