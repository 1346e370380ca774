"""A cluster of two nodes and a real registry: rollouts and faults in the middle of them, under load."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import registry
from support.models import write_scale
from support.stack import ROOT, Load, Stack

from builder.release import build as pipeline
from builder.release.store import Store
from cluster.artifact.place import Place
from cluster.artifact.promote import promote
from cluster.artifact.push import push

FACTORS = {1: 2.0, 2: 3.0, 3: 5.0, 4: 7.0}  # by release


class Nodes:
    """Two nodes with an agent each, the releases in the registry, and the operator's commands."""

    def __init__(self, folder: Path, host: str) -> None:
        self.host, self.blobs = host, folder / "registry" / "blobs"
        self.environ = {"REGISTRY": f"{host}/models", "DOCKER_CONFIG": str(folder / "none")}
        more = {
            **self.environ,
            "AGENT_MODELS": "scale",
            "AGENT_SECS": "0.5",
            "REPORT_SECS": "2",
            "LOAD_SECS": "8",
        }
        self.stacks = {n: Stack(folder / n, NODE_NAME=n, **more) for n in ("a", "b")}
        self.store = Store(folder / "site")
        self.digests: dict[int, str] = {}
        self.specs = {n: write_scale(folder / f"spec{n}", factor=f) for n, f in FACTORS.items()}
        for number, spec in self.specs.items():
            pipeline.build(spec, self.store, "onnxruntime", allow_untrained=False, force=False)
            self.digests[number] = push(self.place, self.store, "scale", number, environ={})["digest"]
        promote(self.place, "scale", "1", {})

    @property
    def place(self) -> Place:
        return Place.of(self.environ)

    def argv(self, *args: str) -> list[str]:
        return [str(ROOT / "scripts" / "rollout"), "--runtime", "native", "--json", "scale", *args]

    def rollout(self, *args: str) -> tuple[int, dict[str, Any]]:
        """The exit code and the answer of ``./scripts/rollout scale ARGS``, as from the first node."""
        done = subprocess.run(
            self.argv(*args), cwd=ROOT, env=self.stacks["a"].env, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        print(done.stderr)
        answer: dict[str, Any] = json.loads(done.stdout)
        return done.returncode, answer

    def shown(self) -> dict[str, Any]:
        return self.rollout()[1]

    def live(self) -> dict[str, int]:
        """The release that each node serves, by the registry's number."""
        numbers = {digest: number for number, digest in self.digests.items()}
        return {n["node"]: numbers.get(n["live"], 0) for n in self.shown()["nodes"]}

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                logs = [
                    (s.models_dir / "run" / "agent.log").read_text()[-1500:] for s in self.stacks.values()
                ]
                pytest.fail(
                    f"{what} did not come to pass in {seconds:.0f} s: {self.shown()}\n" + "\n".join(logs)
                )
            time.sleep(0.3)

    def blob(self, number: int, name: str) -> Path:
        """A file of a release in the registry's own storage."""
        data = self.store.manifest("scale", number)["files"][name]
        return self.blobs / "docker/registry/v2/blobs/sha256" / data[:2] / data / "data"


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with registry.running(folder) as host:
        made = Nodes(tmp_path, host)
        try:
            for stack in made.stacks.values():
                stack.up(made.specs[1], options=("--profile", "agent"))
            yield made
        finally:
            for stack in made.stacks.values():
                stack.run("down")
                stack.kill()


def test_rollouts_and_faults_under_load_fail_no_request(nodes: Nodes) -> None:
    nodes.wait(lambda: nodes.live() == {"a": 1, "b": 1}, 60, "the first reports")
    quick = ("--observe", "2")
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(Load(s.http, s.grpc, s.models_dir, 2)) for s in nodes.stacks.values()]
        code, row = nodes.rollout("--to", "2", *quick, "--first", "b")
        assert (code, row["state"], row["order"]) == (0, "done", ["b", "a"])
        assert nodes.live() == {"a": 2, "b": 2}
        assert nodes.shown()["live"] == nodes.digests[2], "the tag live has moved"

        # A blob that was tampered with: refused by the canary, and nobody else is asked.
        victim = nodes.blob(3, "golden.npz")
        whole = victim.read_bytes()
        victim.write_bytes(whole[:-4] + b"oops")
        code, row = nodes.rollout("--to", "3", *quick)
        assert code == 1
        assert "gone back" in row["error"]["found"]
        assert nodes.live() == {"a": 2, "b": 2}
        victim.write_bytes(whole)

        # It heals with one command; the driver is killed in the middle, and another one goes on.
        driver = subprocess.Popen(
            nodes.argv("--resume"), cwd=ROOT, env=nodes.stacks["a"].env, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        nodes.wait(lambda: 3 in nodes.live().values(), 60, "the canary")
        code, row = nodes.rollout("--to", "4")
        assert code == 1
        assert "is driven by" in row["error"]["found"], "two at once"
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        code, row = nodes.rollout("--resume")
        assert (code, row["state"]) == (0, "done")
        assert nodes.live() == {"a": 3, "b": 3}

        # Held after the canary, and sent back.
        code, row = nodes.rollout("--to", "4", *quick, "--hold")
        assert (code, row["state"]) == (0, "paused")
        assert sorted(nodes.live().values()) == [3, 4]
        code, row = nodes.rollout("--back")
        assert code == 1
        assert "by an operator" in row["error"]["found"]
        assert nodes.live() == {"a": 3, "b": 3}
        time.sleep(0.5)
    for load in loads:
        load.assert_clean(1000)
    shown = nodes.stacks["a"].status()
    assert {n["node"]: n["state"] for n in shown["cluster"]["scale"]["nodes"]} == {
        "a": "serving",
        "b": "serving",
    }
    told = shown["services"]
    assert [(s["name"], s["state"]) for s in told] == [("agent", "running")]
    assert "agent (process" in nodes.stacks["a"].run("down").stdout
