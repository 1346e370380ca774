"""The agent's loop against a store in memory and a node that fails as it is told to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ops.errors import OpsError
from support.stack import ROOT

from cluster.agent import run, share
from cluster.agent.loop import Agent
from cluster.agent.memory import Memory
from cluster.agent.node import BusyError
from cluster.state.store import MemoryStore
from cluster.state.wanted import wanted
from models_volume import traffic
from models_volume.layout import Volume

A, B, C = "sha256:a", "sha256:b", "sha256:c"
VERSIONS = {A: 1, B: 2, C: 3}


class FakeNode:
    """A node whose servers, disk and operator are variables."""

    def __init__(self) -> None:
        self.held = ""
        self.now: int | None = None
        self.gone = ""
        self.mark = False
        self.pulls: list[str] = []
        self.goes: list[int] = []
        self.pull_error: Exception | None = None
        self.go_error: BaseException | None = None
        self.settle_error: OpsError | None = None

    def live(self, model: str) -> int | None:
        return self.now

    def missing(self) -> str:
        return self.gone

    def pending(self, model: str) -> bool:
        return self.mark

    def unsettled(self, model: str, *, ours: bool) -> bool:
        return self.mark and ours

    def settle(self) -> None:
        self.mark = False
        if self.settle_error:
            self.now = VERSIONS[A]
            raise self.settle_error

    def pull(self, model: str, digest: str, beat: Callable[[], None]) -> dict[str, Any]:
        self.pulls.append(digest)
        beat()
        if self.pull_error:
            raise self.pull_error
        return {"model": model, "digest": digest, "version": VERSIONS[digest], "action": "pulled"}

    def go(self, model: str, version: int) -> None:
        self.goes.append(version)
        if self.go_error:
            raise self.go_error
        self.now = version

    def servers(self) -> list[dict[str, Any]]:
        return []

    def measure(self, model: str) -> dict[str, Any]:
        return {"requests": 1}

    def engine(self, model: str) -> dict[str, Any]:
        return {"name": "onnxruntime"}


class AwayError(Exception):
    """As the registry's client raises it after its retries."""

    kind = "unreachable"


class Flaky(MemoryStore):
    """A registry that can be away."""

    away = False
    asked = 0

    def read(self, repo: str, tag: str) -> tuple[str, dict[str, Any]] | None:
        self.asked += 1
        if self.away:
            raise AwayError("the registry does not answer")
        return super().read(repo, tag)


class World:
    """An agent with everything around it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.time, self.models = folder, 0.0, ["m"]
        self.store, self.node, self.events = Flaky(), FakeNode(), []
        self.store.releases["m", "live"] = A
        self.start()

    def start(self) -> None:
        def say(event: str, **facts: Any) -> None:
            self.events.append(event)

        self.agent = Agent(
            "n1",
            lambda: dict.fromkeys(self.models, "m"),
            self.store,
            self.node,
            self.folder,
            say=say,
            clock=lambda: self.time,
        )

    @property
    def report(self) -> dict[str, Any]:
        found = self.store.read("m", "node-n1")
        assert found
        return found[1]

    def rollout(self, **more: Any) -> None:
        document = {"id": "r1", "attempt": 1, "state": "running", "target": B, "previous": A}
        self.store.write("m", "rollout", {**document, "allowed": ["n1"], "order": ["n1", "n2"], **more})


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.agent.step()
    assert made.node.now == 1
    return made


def test_what_the_tag_live_says_is_pulled_made_live_and_reported(world: World) -> None:
    assert world.report["live"] == world.report["wanted"] == A
    assert (world.report["state"], world.report["local"]) == ("serving", 1)
    world.store.releases["m", "live"] = B
    world.agent.step()
    world.agent.step()
    assert (world.node.pulls, world.node.goes) == ([A, B], [1, 2])
    assert world.report["live"] == B


@pytest.mark.parametrize(
    ("state", "allowed", "expected"),
    [
        ("running", ["n1"], B),
        ("running", [], A),
        ("paused", ["n1"], B),
        ("paused", ["n2"], A),
        ("done", [], B),
        ("going_back", ["n1"], A),
        ("gone_back", ["n1"], A),
        ("failed", ["n1"], A),
    ],
)
def test_who_runs_what(state: str, allowed: list[str], expected: str) -> None:
    document = {"state": state, "allowed": allowed, "target": B, "previous": A}
    assert wanted(document, C, "n1") == expected
    assert wanted(None, C, "n1") == C


def test_a_failed_proof_is_reported_and_not_tried_again_in_this_attempt(world: World) -> None:
    world.rollout()
    world.node.go_error = OpsError("wrong answers")
    for _ in range(3):
        world.agent.step()
    assert world.node.goes == [1, 2]
    world.start()  # killed: it knows still
    world.agent.step()
    assert world.node.goes == [1, 2]
    r = world.report
    assert (r["state"], r["live"], r["failed"], r["reason"]) == ("failed", A, B, "wrong answers")
    assert (r["rollout"], r["attempt"]) == ("r1", 1)
    world.rollout(state="going_back")
    world.agent.step()
    assert world.report["state"] == "serving"
    world.node.go_error = None
    world.rollout(attempt=2)
    world.agent.step()
    assert (world.node.now, world.report["state"]) == (2, "serving")


def test_a_pull_that_fails_in_a_rollout_is_the_drivers_to_decide(world: World) -> None:
    world.rollout()
    world.node.pull_error = OpsError("no space left on device", kind="ReleaseError")
    world.agent.step()
    world.agent.step()
    assert world.node.pulls == [A, B]
    assert world.report["state"] == "failed"
    assert "no space" in world.report["reason"]


@pytest.mark.parametrize("kind", ["unreachable", "ReleaseError"])
def test_a_pull_is_tried_again_less_and_less_often_where_nobody_else_decides(world: World, kind: str) -> None:
    if kind == "unreachable":
        world.rollout()
    else:
        world.store.releases["m", "live"] = B
    world.node.pull_error = OpsError("not now", kind=kind)
    for _ in range(100):
        world.agent.step()
        world.time += 1
    assert 4 <= world.node.pulls.count(B) <= 6  # after 0, 5, 15, 35, 75 s
    assert world.node.now == 1
    world.node.pull_error = None
    world.time += 300
    world.agent.step()
    assert world.report["live"] == B


def test_a_registry_that_is_away_is_said_once_and_the_node_serves_on(world: World) -> None:
    world.store.away = True
    for _ in range(5):
        world.agent.step()
    assert world.events.count("registry_down") == 1
    assert world.node.now == 1
    world.store.away = False
    world.store.releases["m", "live"] = B
    world.agent.step()
    assert world.node.now == 2
    assert world.events.count("registry_back") == 1


def test_a_look_waits_once_for_a_registry_that_is_away_however_many_models_there_are(world: World) -> None:
    world.models = ["m", "other", "third"]  # as after a build here: nobody starts the agent anew
    world.store.away, world.store.asked = True, 0
    world.agent.step()
    assert world.store.asked == 1
    world.store.away = False
    world.agent.step()
    assert world.store.asked > 3


def test_a_broken_document_changes_nothing(world: World) -> None:
    for broken in ({"id": "r"}, {"state": "odd", "target": B, "previous": A}, {"state": 1}):
        world.store.write("m", "rollout", broken)
        world.agent.step()
    assert world.node.now == 1
    assert world.events.count("broken_document") == 1
    assert "cannot be used" in world.report["reason"]
    world.rollout()
    world.agent.step()
    assert world.node.now == 2


def test_nothing_is_pulled_for_a_server_that_is_away(world: World) -> None:
    world.rollout()
    world.node.gone = "Triton does not answer"
    world.agent.step()
    assert (world.node.pulls, world.report["state"]) == ([A], "unreachable_server")
    world.node.gone = ""
    world.agent.step()
    assert world.node.now == 2


def test_an_operators_own_release_is_replaced_unless_the_node_is_held(world: World) -> None:
    world.node.now, world.node.held = 9, "measuring"
    world.agent.step()
    assert world.node.now == 9
    assert (world.report["live"], world.report["wanted"]) == (None, A)
    assert world.report["reason"] == "held: measuring"
    world.node.held = ""
    world.agent.step()
    assert world.node.now == 1
    assert "differs" in world.events


def test_an_operator_at_work_is_waited_for(world: World) -> None:
    world.rollout()
    world.node.go_error = BusyError("redeploy by ann")
    world.agent.step()
    assert world.report["failed"] is None
    world.node.go_error = None
    world.agent.step()
    assert world.node.now == 2
    world.node.mark = True  # a proof of somebody else's
    world.rollout(state="gone_back")
    world.agent.step()
    assert world.node.now == 2


def killed_in_proof(world: World) -> None:
    world.rollout()
    world.node.go_error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        world.agent.step()
    world.node.go_error, world.node.now, world.node.mark = None, 2, True
    world.start()


def test_a_change_left_by_a_kill_is_settled_first(world: World) -> None:
    killed_in_proof(world)
    world.agent.step()
    assert (world.node.mark, world.node.goes) == (False, [1, 2])
    assert (world.report["live"], world.report["state"]) == (B, "serving")


def test_a_change_left_by_a_kill_that_does_not_prove_is_a_failure_of_its_attempt(world: World) -> None:
    killed_in_proof(world)
    world.node.settle_error = OpsError("wrong answers")
    world.agent.step()
    world.agent.step()
    assert world.node.goes == [1, 2]
    assert (world.report["state"], world.report["failed"], world.report["live"]) == ("failed", B, A)


def test_a_full_disk_is_said_and_the_process_still_knows(world: World, tmp_path: Path) -> None:
    (tmp_path / "cluster" / "agent.json").unlink()
    (tmp_path / "cluster" / "agent.json").mkdir()  # no file can take this name's place
    world.rollout()
    world.node.go_error = OpsError("wrong answers")
    for _ in range(3):
        world.agent.step()
    assert world.node.goes == [1, 2]
    assert world.events.count("memory_not_written") == 1


def test_a_damaged_memory_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "cluster").mkdir()
    for text in ("", "[]", '{"digests": 3}', '{"digests": {"m": []}, "changing": {}, "failed": {}}'):
        (tmp_path / "cluster" / "agent.json").write_text(text)
        assert Memory(tmp_path).digests("m", 1) == []


def test_a_report_is_written_on_change_and_when_it_has_grown_old(world: World) -> None:
    world.agent.step()
    writes: list[str] = []
    real = world.store.write

    def write(repo: str, tag: str, document: dict[str, Any]) -> str:
        writes.append(tag)
        return real(repo, tag, document)

    world.store.write = write  # type: ignore[method-assign]
    for _ in range(30):
        world.time += 1
        world.agent.step()
    assert len(writes) == 1


def test_the_gateway_gets_the_canaries_while_not_everybody_has_the_release(world: World) -> None:
    wish = {"share": 0.1, "shadow": None}
    world.rollout(traffic=wish)
    world.agent.step()
    assert traffic.read(Volume(world.folder)) == {"m": traffic.Canary(("n1",), 0.1, None)}
    world.rollout(traffic=wish, allowed=["n1", "n2"])
    world.agent.step()
    assert traffic.read(Volume(world.folder)) == {}
    assert share.canaries({"m": {"state": "done", "allowed": ["n1"], "order": [], "traffic": wish}}) == {}


def test_sigterm_ends_it_at_once_and_the_health_check_knows(tmp_path: Path) -> None:
    code = "import sys, pathlib; from cluster.agent import run; "
    code += "sys.exit(run.forever(lambda: None, 0.5, pathlib.Path(sys.argv[1])))"
    beat = tmp_path / "beat"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "scripts")))}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(beat)], env=env, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            end = time.monotonic() + 20
            while not run.healthy(beat) and time.monotonic() < end:
                time.sleep(0.02)
            assert run.healthy(beat)
            child.send_signal(signal.SIGTERM)
            _, err = child.communicate(timeout=5)
        finally:
            child.kill()
    assert child.returncode == 0
    assert json.loads(err.splitlines()[-1])["event"] == "ended"
    beat.write_text(str(time.monotonic() - 3600))
    assert not run.healthy(beat)


def test_another_models_trouble_in_settling_is_not_this_ones_failure(world: World) -> None:
    killed_in_proof(world)

    def settle() -> None:
        world.node.mark = False
        raise OpsError("other: wrong answers")

    world.node.settle = settle  # type: ignore[method-assign]
    world.agent.step()
    assert (world.report["state"], world.report["live"], world.report["failed"]) == ("serving", B, None)


def test_a_change_that_could_not_go_back_is_kept_in_mind(world: World) -> None:
    killed_in_proof(world)

    def settle() -> None:
        raise OpsError("read-only file system")

    world.node.settle = settle  # type: ignore[method-assign]
    world.agent.step()
    assert world.node.goes == [1, 2]
    del world.node.settle
    world.agent.step()
    assert (world.report["state"], world.report["live"]) == ("serving", B)


def test_an_operator_who_builds_during_a_pull_is_no_failure_of_the_release(world: World) -> None:
    world.rollout()
    world.node.pull_error = BusyError("a build by ann")
    world.agent.step()
    assert world.report["failed"] is None
    world.node.pull_error = None
    world.agent.step()
    assert (world.report["state"], world.report["live"]) == ("serving", B)
