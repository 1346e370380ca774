"""The starred rows of docs/operations.md in containers: changes under load, kills, restarts, SIGTERM."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from support.compose import Project, docker, must, readable, wait_for
from support.models import write_lookup, write_scale
from support.stack import ROOT, Load

SPOIL = """
import hashlib, json, pathlib
release = pathlib.Path("/models/releases/scale/2")
(release / "model/2/model.onnx").write_bytes(b"")
manifest = json.loads((release / "manifest.json").read_text())
manifest["files"]["model/2/model.onnx"] = hashlib.sha256(b"").hexdigest()
(release / "manifest.json").write_text(json.dumps(manifest))
"""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
KILLS = len(SIGNALS) * int(os.environ.get("KILLS_EACH") or 2)


class Deployment:
    """A project whose ``scale`` changes; ``golden`` tells the load what each version answers."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project = project
        self.folder = folder
        self.golden = folder / "golden"

    def spec(self, version: int, **keys: object) -> Path:
        """The spec that becomes this version: its factor and offset are its own."""
        spec = write_scale(self.folder / str(version), factor=1.0 + version, offset=version, **keys)
        target = self.golden / "releases" / "scale" / str(version)
        target.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(spec.with_suffix(".npz"), target / "golden.npz")
        readable(spec.parent)
        return spec

    def up(self, spec: Path) -> None:
        must(self.project.script("up", "--runtime", "docker", "--device", "cpu", "--model", spec))

    def redeploy(self, spec: Path) -> subprocess.CompletedProcess[str]:
        return self.project.script("redeploy", "--runtime", "docker", "--model", spec)

    def live(self) -> int:
        return int(self.project.snapshot()["scale"]["live"])

    def states(self) -> dict[int, str]:
        rows = json.loads(must(self.project.script("releases", "--json", "--runtime", "docker")))
        return {row["version"]: row["state"] for row in rows}

    def load(self, clients: int) -> Load:
        return Load(self.project.http, self.project.grpc, self.golden, clients, pause=0.02)


@pytest.fixture
def deployment(projects: Callable[..., Project], tmp_path: Path) -> Deployment:
    return Deployment(projects(), tmp_path)


@pytest.mark.timeout(600)
def test_ten_changes_under_load_fail_no_request(deployment: Deployment) -> None:
    """Among them other batch limits: engine and configuration change together."""
    deployment.up(deployment.spec(1))
    version, began = 1, time.monotonic()
    with deployment.load(clients=8) as load:
        for n in range(1, 11):
            if n % 3:
                version += 1
                done = deployment.redeploy(deployment.spec(version, max_batch=4 + 4 * (n % 2)))
            else:
                done = deployment.project.script("rollback", "--runtime", "docker")
            assert done.returncode == 0, done.stderr
        while time.monotonic() - began < 60:
            time.sleep(0.5)
    load.assert_clean(at_least=20_000)


@pytest.mark.timeout(150 + 60 * KILLS)
def test_a_redeploy_that_is_killed_makes_nothing_live_later(deployment: Deployment) -> None:
    """SIGTERM, SIGINT and SIGKILL at random moments, to the driver alone, as a supervisor or the kernel sends
    them, twice each (KILLS_EACH=10 is longer); thirty more of the same code as plain processes in
    tests/native. SIGKILL comes last: what it leaves pending is settled by the next redeploy, which a signal
    may end before that.
    """
    seed = int(os.environ.get("KILLS_SEED") or random.randrange(10**6))
    rng = random.Random(seed)
    print(f"KILLS_SEED={seed}")
    project = deployment.project
    deployment.up(deployment.spec(1))
    began = time.monotonic()
    must(deployment.redeploy(deployment.spec(2)))
    seconds = time.monotonic() - began
    for n in range(3, 5 + KILLS):
        deployment.spec(n)  # whichever of them get a number, the load would know their answers
    tally: dict[str, int] = {}
    good = 2  # the release that was live and proven before
    for n in range(KILLS):
        with subprocess.Popen(
            [ROOT / "scripts" / "redeploy", "--runtime", "docker", "--model", deployment.spec(good + 1)],
            cwd=ROOT, env=project.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as child:  # fmt: skip
            time.sleep(rng.uniform(0, seconds))
            sent = SIGNALS[n * len(SIGNALS) // KILLS]
            child.send_signal(sent)
            said = child.communicate(timeout=90)[1]
        at_once = deployment.live()
        # Its one-off containers are gone after moments; the last time, whatever sleeps gets longer to wake.
        wait_for(lambda: not project.one_offs(), 20, "the killed redeploy's containers")
        quiet = project.snapshot()["scale"]
        time.sleep(40 if n == KILLS - 1 else 2)
        later, states = project.snapshot()["scale"], deployment.states()
        live = int(later["live"])
        where = (
            f"seed {seed}, {sent.name} number {n}: live was {good}, {at_once} at once, {live} later: "
            f"{states}\n{said}"
        )
        assert live in {good, at_once}, f"it went live by itself: {where}"
        assert later == quiet, f"something changed after its containers were gone: {where}"
        assert sent == signal.SIGKILL or not quiet["pending"], f"it did not go the way back: {where}"
        proven = states[live] == "live"
        assert live == good or proven or sent == signal.SIGKILL, f"SIGTERM left it unproven: {where}"
        result = f"{sent.name}: {'old' if live == good else 'new' if proven else 'new, not proven yet'}"
        tally[result] = tally.get(result, 0) + 1
        # What the server answers with is what is live, or becomes it at the next poll.
        wait_for(lambda version=live: project.ready("scale", version), 30, where)  # type: ignore[misc]
        good = live
    print(tally)
    done = deployment.redeploy(write_last(deployment))
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    states = deployment.states()
    assert states[deployment.live()] == "live"
    assert "pending" not in states.values()


def write_last(deployment: Deployment) -> Path:
    spec = write_scale(deployment.folder / "last", factor=99)
    readable(spec.parent)
    return spec


@pytest.mark.timeout(200)
def test_a_server_restarted_while_a_redeploy_runs(deployment: Deployment) -> None:
    project = deployment.project
    deployment.up(deployment.spec(1))
    child = subprocess.Popen(
        [ROOT / "scripts" / "redeploy", "--runtime", "docker", "--model", deployment.spec(2)],
        cwd=ROOT, env={**project.env, "LOAD_SECS": "40"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(1)
    must(docker("restart", "--time", "45", project.container("triton")))
    _, errors = child.communicate(timeout=150)
    live = deployment.live()
    assert (child.returncode, live) in ((0, 2), (1, 1)), errors
    wait_for(lambda: project.ready("scale", live), 60, "the live release")


@pytest.mark.timeout(200)
def test_a_server_restarted_on_a_bad_pending_release_serves_the_last_good_one(deployment: Deployment) -> None:
    project = deployment.project
    good = deployment.spec(1)
    deployment.up(good)
    bad = deployment.spec(2)
    mount = ["--volume", f"{bad.parent}:/bad:ro"]
    run = ["run", "--rm", "--no-deps", "-T"]
    must(project.compose(*run, *mount, "builder", "build", "/bad/scale.yaml"))
    must(project.inside("builder", SPOIL))
    must(project.compose(*run, "builder", "activate", "scale", "2", "--pending"))
    must(docker("restart", "--time", "45", project.container("triton")))
    done = project.script("up", "--runtime", "docker", "--device", "cpu", "--model", good)
    assert deployment.live() == 1, done.stderr
    wait_for(lambda: project.ready("scale", 1), 30, "the last good release")


@pytest.mark.timeout(120)
def test_docker_stop_answers_what_is_in_flight(projects: Callable[..., Project], tmp_path: Path) -> None:
    spec = write_lookup(tmp_path / "spec")
    spec.write_text(spec.read_text().replace("max_queue_delay_us: 300000", "max_queue_delay_us: 3000000"))
    readable(spec.parent)
    project = projects(specs=spec.parent, models="specs/lookup.yaml")
    must(project.compose("run", "--rm", "--no-deps", "builder"))
    must(project.compose("up", "--detach", "--no-deps", "triton"))
    wait_for(lambda: project.ready("lookup", 1), 60, "the server")
    answers: list[float] = []

    def ask(n: int) -> None:
        with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{project.grpc}") as client:
            tensor = tritonclient.grpc.InferInput("index", [1, 1], "INT32")
            tensor.set_data_from_numpy(np.array([[n]], np.int32))
            answers.append(float(client.infer("lookup", [tensor]).as_numpy("value")[0, 0]))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    must(project.compose("stop", "triton"))
    for thread in threads:
        thread.join(30)
    assert sorted(answers) == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert project.state("triton")["ExitCode"] == 0
