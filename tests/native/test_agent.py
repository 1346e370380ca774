"""The agent with two nodes: two models volumes, two real Tritons, promoted, refused and killed under load.

The store is in memory, and a pull is a build on the node: what a registry does is not tested here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ops import rollout, settings
from support.models import write_scale
from support.stack import Load, Stack

from cluster.agent import run, servers
from cluster.agent.loop import Agent
from cluster.agent.node import Node
from cluster.agent.runtime import NodeRuntime
from cluster.state.store import MemoryStore
from models_volume.layout import PENDING, Volume

REPORTS = 5.0  # seconds between two reports that say nothing new


class BuildingNode(Node):
    """A node whose pulls are builds: a digest names a spec."""

    def __init__(self, given: settings.Settings, runtime: NodeRuntime, specs: dict[str, Path]) -> None:
        super().__init__(given, runtime)
        self._given, self._specs = runtime, specs

    def pull(self, model: str, digest: str, beat: Callable[[], None]) -> dict[str, Any]:
        beat()
        options = ["--engine", "onnxruntime", "--allow-untrained"]
        row: dict[str, Any] = rollout.ask(
            self._given, "builder", ["build", str(self._specs[digest]), *options]
        )[0]  # type: ignore[arg-type]
        return {"version": row["version"], "action": row["action"]}


def agent(stack: Stack, name: str, store: MemoryStore, specs: dict[str, Path]) -> Agent:
    given = dataclasses.replace(settings.load(stack.env), poll_secs=1)
    where = f"127.0.0.1:{stack.http}:{stack.grpc}:{stack.metrics}"
    runtime = NodeRuntime(given, "cpu", lambda: servers.find(where, name))
    node = BuildingNode(given, runtime, specs)
    repositories = {"scale": "scale"}
    return Agent(name, lambda: repositories, store, node, stack.models_dir, say=run.say, report_secs=REPORTS)


def report(store: MemoryStore, name: str) -> dict[str, Any]:
    found = store.read("scale", f"node-{name}")
    assert found
    return found[1]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Stack]]:
    stacks = [Stack(tmp_path / name, LOAD_SECS="8") for name in ("a", "b")]
    first = write_scale(tmp_path / "one")
    try:
        for stack in stacks:
            stack.up(first)
        yield stacks
    finally:
        for stack in stacks:
            stack.kill()


def test_two_nodes_follow_the_cluster_with_proof_under_load(two: list[Stack], tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    specs = {
        f"sha256:{factor}": write_scale(tmp_path / str(factor), factor=float(factor))
        for factor in (2, 3, 4, 5)
    }
    store = MemoryStore()
    store.releases["scale", "live"] = "sha256:2"
    a, b = (agent(stack, name, store, specs) for stack, name in zip(two, "ab", strict=True))
    try:
        with contextlib.ExitStack() as stack:
            loads = [stack.enter_context(Load(s.http, s.grpc, s.models_dir, 2)) for s in two]
            a.step()  # the release that is there, under the cluster's name
            b.step()
            assert [report(store, n)["live"] for n in "ab"] == ["sha256:2"] * 2
            store.releases["scale", "live"] = "sha256:3"
            a.step()
            b.step()
            assert [report(store, n)["local"] for n in "ab"] == [2, 2]
            assert report(store, "a")["state"] == "serving"

            # A release that is right on a, and on b is not what was verified: b goes back by itself.
            document = {"id": "r", "attempt": 1, "state": "running", "target": "sha256:4"}
            document |= {"previous": "sha256:3", "allowed": ["a", "b"], "order": ["a", "b"]}
            store.write("scale", "rollout", document)
            a.step()
            assert report(store, "a")["live"] == "sha256:4"
            real = BuildingNode.pull
            with pytest.MonkeyPatch.context() as patch:

                def spoilt(self: BuildingNode, *args: Any) -> dict[str, Any]:
                    row = real(self, *args)
                    golden = two[1].models_dir / "releases/scale" / str(row["version"]) / "golden.npz"
                    golden.write_bytes((two[1].models_dir / "releases/scale/2/golden.npz").read_bytes())
                    return row

                patch.setattr(BuildingNode, "pull", spoilt)
                b.step()
            said = report(store, "b")
            assert (said["state"], said["live"], said["failed"]) == ("failed", "sha256:3", "sha256:4")
            assert Volume(two[1].models_dir).live("scale") == 2
            store.write("scale", "rollout", {**document, "state": "gone_back"})
            a.step()
            b.step()
            assert [report(store, n)["state"] for n in "ab"] == ["serving"] * 2

            killed(two[0], store, specs, document)
            fresh = agent(two[0], "a", store, specs)
            fresh.step()
            fresh.step()
            assert report(store, "a")["live"] == "sha256:5"
            figures = report(store, "b")["metrics"]
            assert figures["probe_p99_ms"] > 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    for load in loads:
        load.assert_clean(at_least=500)
    assert loads[1].result["versions"][:2] == ["1", "2"]


def killed(stack: Stack, store: MemoryStore, specs: dict[str, Path], document: dict[str, Any]) -> None:
    """Kill the agent while its change is live and not proven."""
    store.write("scale", "rollout", {**document, "id": "r2", "target": "sha256:5"})
    child = multiprocessing.get_context("fork").Process(
        target=lambda: agent(stack, "a", store, specs).step(), daemon=True
    )
    child.start()
    mark = Volume(stack.models_dir).of_model("scale") / PENDING
    end = time.monotonic() + 60
    while not mark.exists() and time.monotonic() < end:
        time.sleep(0.002)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(10)
    assert mark.exists(), "it was killed in mid-change"
