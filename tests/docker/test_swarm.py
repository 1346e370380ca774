"""Judged on three engines: the generated stack under load through the gateway, node by node, with faults.

One cluster for the whole file; the tests go on from where the one before has left it, and say how long each
step takes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ops.runtimes import build_secrets
from support import swarm
from support.compose import CPU, docker, must, readable, wait_for
from support.models import write_scale
from support.stack import PACKAGES, ROOT, Load
from support.swarm import Engine, timed

from builder.release.store import Store
from cluster.artifact.place import Place
from cluster.artifact.promote import promote
from cluster.artifact.push import push
from gateway import keys

STACK = "tt"
LABEL = "tensorflow-triton.device=cpu"
EVERY_SECS = "1"


class Deployed:
    """The stack in a swarm.

    Attributes:
        cluster: the engines; the first one manages, and its gateway gets the load.
        requests: answered so far.
    """

    def __init__(self, cluster: swarm.Cluster, folder: Path, releases: Path) -> None:
        self.cluster = cluster
        self.releases = releases
        self.file = folder / "stack.yaml"
        self.key = keys.add(folder / "keys", "tester")
        self.certificate = _certificate(folder, cluster.network)
        self.env = {
            **os.environ,
            "KEYS_FILE": str(folder / "keys"),
            "GATEWAY_CERT": str(self.certificate),
            "GATEWAY_RATE": "1000000",
            "GATEWAY_CONNECTIONS": "10000",
            "POLL_SECS": EVERY_SECS,
            "START_SECS": "20",
            "EXIT_TIMEOUT_SECS": "10",
            "STOP_GRACE_SECS": "25",
            "COMPOSE_FILE": CPU,
            "COMPOSE_PROJECT_NAME": STACK,
            "REGISTRY_INSECURE": "1",
            "AGENT_MODELS": "scale",
            "AGENT_SECS": "1",
            "REPORT_SECS": "5",
        }
        self.requests = 0
        self.images: dict[str, str] = self.generate()["images"]

    @property
    def manager(self) -> Engine:
        return self.cluster.engines["node-a"]

    def generate(self, **environ: str) -> dict[str, Any]:
        """`./scripts/swarm`; its answer."""
        argv = ["--registry", self.cluster.registry, "--ports", "host", "--output", str(self.file), "--json"]
        done = subprocess.run(
            [str(ROOT / "scripts" / "swarm"), *argv],
            env={**self.env, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        return dict(json.loads(must(done)))

    def deploy(self, **environ: str) -> None:
        """The one command, for the stack with these settings."""
        self.generate(**environ)
        must(self.manager.docker("stack", "deploy", "--detach=true", "-c", self.file, STACK))

    def push(self) -> None:
        """Both releases into the registry; the first one is live."""
        place = Place.of({"REGISTRY": self.cluster.registry, "REGISTRY_INSECURE": "1"})
        for version in (1, 2):
            push(place, Store(self.releases, make=False), "scale", version, environ={})
        promote(place, "scale", "1", {})

    def rollout(self, *args: str) -> dict[str, Any]:
        """`python -m cluster rollout scale ARGS`; its answer."""
        env = {**self.env, "PYTHONPATH": PACKAGES, "REGISTRY": self.cluster.registry}
        argv = [sys.executable, "-m", "cluster", "rollout", "scale", *args, "--json"]
        done = subprocess.run(
            argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout))

    def releases_of_nodes(self) -> dict[str, tuple[str, int]]:
        """By node: what its agent says of it, and its release."""
        return {n["node"]: (n["state"], n["release"]) for n in self.rollout()["nodes"]}

    def publish(self, engine: Engine, version: int) -> None:
        """Give a node's volume the release, as its agent would after a pull."""
        volume = engine.volume(f"{STACK}_models")
        if not volume.exists():
            must(engine.docker("volume", "create", f"{STACK}_models"))
            volume.chmod(0o755)
            volume.joinpath("repository").mkdir()
        target = volume / "releases" / "scale" / str(version)
        if not target.exists():
            shutil.copytree(self.releases / "releases" / "scale" / str(version), target, symlinks=True)
        for path in target.rglob("*"):  # Triton looks at times
            os.utime(path)
        fresh = volume / "fresh"
        fresh.symlink_to(f"../releases/scale/{version}/model")
        fresh.rename(volume / "repository" / "scale")
        for path in [volume, *volume.rglob("*")]:
            os.chown(path, 1000, 1000, follow_symlinks=False)

    def node(self, name: str, *, joins: bool, empty: bool = False) -> Engine:
        """A new machine; ``joins``: it is let in, which is all that one does; ``empty``: without a release on
        its volume, so that its agent has to pull one."""
        engine = self.cluster.engine(name, self.images, [LABEL])
        engine.wait()
        if not empty:
            self.publish(engine, 1)
        if joins:
            self.cluster.join("node-a", name)
        return engine

    def tasks(self, service: str) -> dict[str, tuple[str, str]]:
        """By node that should run the service: its task's state, and its image."""
        form = "{{.Node}}|{{.CurrentState}}|{{.Image}}"
        argv = ["--filter", "desired-state=running", "--format", form]
        rows = must(self.manager.docker("service", "ps", *argv, f"{STACK}_{service}")).split("\n")
        return {n: (s.split()[0], i) for n, s, i in (row.split("|") for row in rows if row)}

    def runs(self, service: str, *nodes: str) -> bool:
        """Whether exactly these nodes run it, and it is healthy there."""
        return {name: state for name, (state, _) in self.tasks(service).items()} == dict.fromkeys(
            nodes, "Running"
        )

    def ended(self, service: str, node: str) -> bool:
        """Whether the node's task of the service has ended."""
        argv = ["--filter", f"name={STACK}_{service}", "--format", "{{.CurrentState}}"]
        states = must(self.manager.docker("node", "ps", *argv, node)).split("\n")
        return not any(state.startswith("Running") for state in states)

    def wait(self, condition: Callable[[], bool], seconds: float, service: str, what: str) -> None:
        """Wait for something about a service; fails the test with all that the swarm says of it."""
        try:
            wait_for(condition, seconds, what)
        except AssertionError as e:
            said = self.manager.docker("service", "ps", "--no-trunc", f"{STACK}_{service}").stdout
            logs = self.manager.docker("service", "logs", "--tail", "15", f"{STACK}_{service}")
            raise AssertionError(f"{e}\n{said}\n{logs.stdout}{logs.stderr}\n{self.manager.log}") from e

    def state(self, service: str) -> str:
        """Of the update under way or the last one; empty before the first."""
        form = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}"
        return must(self.manager.docker("service", "inspect", "--format", form, f"{STACK}_{service}")).strip()

    def setting(self, service: str, name: str) -> str:
        """A variable of the service, as the swarm has it now."""
        form = "{{json .Spec.TaskTemplate.ContainerSpec.Env}}"
        env = json.loads(
            must(self.manager.docker("service", "inspect", "--format", form, f"{STACK}_{service}"))
        )
        return dict(line.split("=", 1) for line in env)[name]

    @contextmanager
    def load(self, clients: int = 3) -> Iterator[Load]:
        """Clients through the first node's gateway; afterwards none of them has seen a failure."""
        place = f"{self.manager.address}:8443"
        with Load(place, place, self.releases, clients, (self.certificate, self.key), pause=0.01) as load:
            yield load
        self.requests += load.result["requests"]
        load.assert_clean(at_least=100)

    def servers(self) -> set[str]:
        """The nodes that answer through the first gateway just now, by its own log's newest lines."""
        [container] = must(self.manager.docker("ps", "--quiet", "--filter", f"name={STACK}_gateway")).split()
        log = self.manager.docker("logs", "--tail", "400", container).stdout
        lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
        return {str(line.get("node") or line.get("server")) for line in lines}


def _certificate(folder: Path, network: str) -> Path:
    """A certificate for every address of the network, with its key, in one file."""
    names = ",".join(f"IP:{network}.{10 + number}" for number in range(1, 10))
    made = folder / "certificate.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "2", "-subj", "/CN=swarm", "-addext", f"subjectAltName={names}",
            "-keyout", f"{made}.key", "-out", f"{made}.crt"]  # fmt: skip
    subprocess.run(argv, check=True, capture_output=True)
    made.write_text(Path(f"{made}.crt").read_text() + Path(f"{made}.key").read_text())
    return made


@pytest.fixture(scope="module")
def releases(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models volume with two releases of ``scale``: twice its input, and three times its input."""
    folder = tmp_path_factory.mktemp("releases")
    os.chown(folder, 1000, 1000)
    for factor in (2.0, 3.0):
        specs = tmp_path_factory.mktemp("specs")
        write_scale(specs, factor=factor)
        readable(specs)
        mounts = ["--volume", f"{folder}:/models", "--volume", f"{specs}:/app/specs:ro"]
        argv = ["run", "--rm", "--env", "ENGINE=onnxruntime", *mounts, images["builder"]]
        must(docker(*argv, "deploy", "specs/scale.yaml"))
    return folder


@pytest.fixture(scope="module")
def deployed(
    images: dict[str, str], releases: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployed]:
    """Two nodes that serve; a third machine waits."""
    problem = swarm.problem()
    if problem:
        pytest.skip(f"no swarm can be made here: {problem}")
    with build_secrets.handed() as secrets:
        must(docker("compose", "build", "gateway", env={**os.environ, "COMPOSE_FILE": CPU, **secrets}))
    with swarm.cluster() as cluster:
        with timed("registry"):
            cluster.registry_server.start()
        made = Deployed(cluster, tmp_path_factory.mktemp("swarm"), releases)
        made.push()
        with timed("two engines"):
            made.node("node-a", joins=False)
            cluster.swarm("node-a")
            made.node("node-b", joins=True)
        with timed("deploy"):
            made.deploy()
            made.wait(lambda: made.runs("triton", "node-a", "node-b"), 90, "triton", "Triton on two nodes")
            made.wait(
                lambda: made.runs("gateway", "node-a", "node-b"), 25, "gateway", "the gateway on two nodes"
            )
        yield made


@pytest.fixture
def both(deployed: Deployed) -> Deployed:
    """Under load, from the first test to the last."""
    return deployed


def test_a_node_is_added_by_joining(both: Deployed) -> None:
    with both.load():
        with timed("a third node"):
            both.node("node-c", joins=True, empty=True)
            both.wait(
                lambda: both.runs("triton", "node-a", "node-b", "node-c"),
                90,
                "triton",
                "Triton on the third node",
            )
        with timed("its release, pulled by its agent"):
            there = {f"node-{letter}": ("serving", 1) for letter in "abc"}
            both.wait(lambda: both.releases_of_nodes() == there, 90, "agent", "the third node's release")
        wait_for(lambda: "node-c" in both.servers(), 30, "the third node's first answers")


def test_a_release_is_rolled_out_node_by_node_and_the_one_before_it_after_it(both: Deployed) -> None:
    with both.load() as load:
        for number in (2, 1):
            with timed(f"a rollout to release {number}"):
                done = both.rollout("--to", str(number), "--observe", "3", "--first", "node-c")
            assert done["state"] == "done"
            assert done["order"][0] == "node-c"
            assert both.releases_of_nodes() == {f"node-{c}": ("serving", number) for c in "abc"}
    assert load.result["versions"] == ["1", "2"]


def test_a_node_leaves_and_servers_are_replaced_node_by_node_and_put_back(both: Deployed) -> None:
    with both.load(), timed("a node that is drained"):
        must(both.manager.docker("node", "update", "--availability", "drain", "node-c"))
        both.wait(lambda: both.ended("triton", "node-c"), 60, "triton", "the end of the third node's Triton")
        assert both.runs("triton", "node-a", "node-b")
    with both.load(), timed("a new setting"):
        both.deploy(HTTP_THREADS="5")
        assert both.setting("triton", "HTTP_THREADS") == "5"
        both.wait(lambda: both.state("triton") == "completed", 180, "triton", "the update")
    with both.load(), timed("the old setting"):
        must(both.manager.docker("service", "rollback", "--detach", f"{STACK}_triton"))
        both.wait(lambda: both.state("triton") == "rollback_completed", 180, "triton", "the way back")
        assert both.setting("triton", "HTTP_THREADS") == ""
    assert both.requests >= 20_000
