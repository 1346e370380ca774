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
from ops.runtimes.process import ServerProcess
from support import registry
from support.models import write_scale
from support.stack import ROOT, Load, Stack

from builder.release import build as pipeline
from builder.release.store import Store
from cluster.artifact.place import Place
from cluster.artifact.promote import promote
from cluster.artifact.push import push

PAUSE = 0.02  # seconds between two requests of a client: both nodes are this machine
FACTORS = {1: 2.0, 2: 3.0, 3: 5.0, 4: 7.0}  # by release


class Nodes:
    """Two nodes with an agent each, the releases in the registry, and the operator's commands."""

    def __init__(self, folder: Path, server: registry.Server) -> None:
        self.registry, self.blobs = server, folder / "registry" / "blobs"
        host = server.host
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

    def up(self, name: str) -> None:
        """Start a node as its operator does."""
        self.stacks[name].up(self.specs[1], options=("--profile", "agent"))

    def begin(self, *args: str) -> subprocess.Popen[str]:
        """``rollout`` in the background, while something else happens."""
        return subprocess.Popen(
            self.argv(*args), cwd=ROOT, env=self.stacks["a"].env, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

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


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Two nodes that serve the first release, with a registry. As root, the second one has a small file
    system of its own."""
    home = tmp_path_factory.mktemp("cluster")
    folder = home / "registry"
    folder.mkdir()
    server = registry.Server(folder)
    with contextlib.ExitStack() as stack:
        if os.geteuid() == 0:
            (home / "b").mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", home / "b"], check=True)
            stack.callback(subprocess.run, ["umount", "-l", home / "b"], check=True)
        server.start()
        stack.callback(server.stop)
        made = Nodes(home, server)
        for one in made.stacks.values():
            stack.callback(one.kill)
            stack.callback(one.run, "down")
        for name in made.stacks:
            made.up(name)
        made.wait(lambda: made.live() == {"a": 1, "b": 1}, 60, "the first reports")
        yield made


def test_rollouts_and_faults_under_load_fail_no_request(nodes: Nodes) -> None:
    quick = ("--observe", "2")
    with contextlib.ExitStack() as stack:
        loads = [
            stack.enter_context(Load(s.http, s.grpc, s.models_dir, 2, pause=PAUSE))
            for s in nodes.stacks.values()
        ]
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
        driver = nodes.begin("--resume")
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


def ended(driver: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
    """The exit code of ``Nodes.begin``, its answer, and what it said."""
    out, said = driver.communicate(timeout=240)
    assert "Traceback" not in said, said
    print(said)
    return driver.returncode, json.loads(out), said


def test_a_registry_that_goes_away_and_a_node_that_is_killed_in_mid_rollout(nodes: Nodes) -> None:
    a, b = (nodes.stacks[n] for n in ("a", "b"))
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(Load(s.http, s.grpc, s.models_dir, 2, pause=PAUSE)) for s in (a, b)]
        # The registry is down while the canary is observed: everybody serves on, and the rollout goes on.
        driver = nodes.begin("--to", "2", "--observe", "4")
        nodes.wait(lambda: 2 in nodes.live().values(), 60, "the canary")
        nodes.registry.stop()
        time.sleep(8)
        nodes.registry.start()
        code, row, said = ended(driver)
        assert (code, row["state"]) == (0, "done"), said
        assert "the nodes serve on" in said
        assert "the registry is back" in said
        assert nodes.live() == {"a": 2, "b": 2}
    for load in loads:
        load.assert_clean(500)

    # The second node is killed, server and agent, as its turn comes: the rollout goes back on the first one.
    with Load(a.http, a.grpc, a.models_dir, 2, pause=PAUSE) as load:
        driver = nodes.begin("--to", "3", "--observe", "2", "--first", "a", "--node-secs", "12")
        nodes.wait(lambda: nodes.live().get("a") == 3, 60, "the canary")
        agent = ServerProcess(b.models_dir / "run", "agent.json").state()
        assert agent is not None
        os.killpg(agent["pid"], signal.SIGKILL)
        b.kill()
        code, row, said = ended(driver)
        assert code == 1
        assert "gone back" in row["error"]["found"], said
        assert "b: it was not there" in row["error"]["found"]
        assert nodes.live()["a"] == 2
        # It is started again, and one command brings the release to both.
        nodes.up("b")
        code, row = nodes.rollout("--resume")
        assert (code, row["state"]) == (0, "done")
        assert nodes.live() == {"a": 3, "b": 3}
    load.assert_clean(500)


def test_a_full_disk_on_one_node_moves_nothing_there_and_sends_the_others_back(nodes: Nodes) -> None:
    volume = nodes.stacks["b"].models_dir
    if not os.path.ismount(volume):
        pytest.skip("only root may make a small file system of a node's own")
    before = nodes.live()
    loads = [Load(s.http, s.grpc, s.models_dir, 2, pause=PAUSE) for s in nodes.stacks.values()]
    with loads[0], loads[1]:
        ballast = volume / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 20))
        code, row = nodes.rollout("--to", "4", "--observe", "1", "--first", "a")  # b has never had it
        assert code == 1
        assert "gone back" in row["error"]["found"]
        assert "b: 0 MiB are free" in row["error"]["found"]
        assert nodes.live() == before
        ballast.unlink()
        code, row = nodes.rollout("--resume")
        assert (code, row["state"]) == (0, "done")
        assert nodes.live() == {"a": 4, "b": 4}
    for load in loads:
        load.assert_clean(500)


def test_down_ends_the_agent_before_the_server(nodes: Nodes) -> None:
    told = nodes.stacks["a"].status()["services"]
    assert [(s["name"], s["state"]) for s in told] == [("agent", "running")]
    said = nodes.stacks["a"].run("down").stdout
    assert said.index("agent (process") < said.index("Triton (process")
