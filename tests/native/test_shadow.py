"""Copies of real requests are compared on two real Tritons; no request of a user waits or fails by one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support import json_lines
from support.gateway import Gateway
from support.models import write_scale
from support.nodes import Nodes, running
from support.stack import PACKAGES

from models_volume import traffic
from models_volume.layout import Volume
from models_volume.traffic import Canary


class Shadow:
    """``python -m triton_stack_client shadow`` behind a gateway; a context manager."""

    def __init__(self, gateway: Gateway, models_dir: Path) -> None:
        self.port = gateway.shadow_port
        self._log = gateway.folder / "shadow.log"
        self._argv = [sys.executable, "-m", "triton_stack_client", "shadow", "--port", str(self.port)]
        self._argv += ["--models-dir", str(models_dir)]

    def __enter__(self) -> Shadow:
        self.start()
        return self

    def start(self) -> None:
        """Start it and wait until it listens."""
        with self._log.open("ab") as log:
            env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": PACKAGES}
            self._process = subprocess.Popen(self._argv, env=env, stdout=log, stderr=log)
        until(lambda: bool(self.metrics()))

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        assert self._process.wait(20) == 0, self._log.read_text()

    def kill(self) -> None:
        """End it without a word."""
        self._process.kill()
        self._process.wait()

    def metrics(self) -> dict[str, int]:
        """Counters by name, model left out: {"compared_total 1": 20, "dropped_total busy": 2}."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        found = re.findall(
            r'^triton_stack_shadow_(\w+){model="scale",\w+="(\w*)"} (\d+)$', text, re.MULTILINE
        )
        return {**{f"{name} {value}": int(count) for name, value, count in found}, "up": 1}

    @property
    def lines(self) -> list[dict[str, object]]:
        """Its log of differences."""
        return json_lines.read(self._log)


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """node-a, which users are served by, and node-b, the canary: at first with the same release."""
    folder = tmp_path_factory.mktemp("nodes")
    spec = write_scale(folder / "spec")
    with running(folder, {"node-a": spec, "node-b": spec}) as nodes:
        nodes.named("node-a", "node-b")
        yield nodes


@pytest.fixture
def gateway(nodes: Nodes, tmp_path: Path) -> Iterator[Gateway]:
    """All users' requests go to node-a, and a copy of every one to both."""
    volume = Volume(nodes.stacks["node-a"].models_dir)
    traffic.write(volume, {"scale": Canary(("node-b",), share=0.0, shadow=1.0)})
    with Gateway(nodes.stacks["node-a"], tmp_path, **nodes.environ) as gateway:
        until(lambda: bool((gateway.folder / "run" / "shadows.map").read_text()))
        yield gateway


def users_are_answered_by_a(gateway: Gateway) -> bool:
    return {line["server"] for line in gateway.lines if line["model"]} == {"node-a"}


def counted(shadow: Shadow, name: str) -> int:
    return sum(count for key, count in shadow.metrics().items() if key.startswith(name))


def test_equal_releases_agree_and_one_that_differs_is_found(
    nodes: Nodes, gateway: Gateway, tmp_path: Path
) -> None:
    a, b = nodes.stacks["node-a"], nodes.stacks["node-b"]
    with Shadow(gateway, a.models_dir) as shadow:
        # JSON; the first copies may find that HAProxy has not seen the service come yet.
        until(lambda: ask(gateway)[0] == 200 and counted(shadow, "compared") >= 20)
        with gateway.load(a, clients=1) as load:  # binary tensors
            until(lambda: counted(shadow, "compared") > 70)
        load.assert_clean(50)
        assert not counted(shadow, "differing"), shadow.lines
        b.up(write_scale(tmp_path / "other", factor=2.01))
        until(lambda: ask(gateway)[0] == 200 and counted(shadow, "differing") > 0)
        [line, *_] = shadow.lines
        assert (line["model"], line["output"]) == ("scale", "scores")
        assert (line["release"], line["other_release"]) == ("2", "1")
        assert float(str(line["max_abs"])) > float(str(line["allowed"]))
    assert users_are_answered_by_a(gateway)


def test_a_dead_service_and_a_dead_canary_cost_users_nothing(nodes: Nodes, gateway: Gateway) -> None:
    a, b = nodes.stacks["node-a"], nodes.stacks["node-b"]
    nodes.up("node-b")
    shadow = Shadow(gateway, a.models_dir)
    with gateway.load(a, clients=2) as load:
        time.sleep(1)  # before it has ever been there
        with shadow:
            until(lambda: counted(shadow, "compared") > 0)
            until(lambda: shadow.metrics().get("dropped_total unreachable", 0) > 0)
            b.kill()
            until(lambda: shadow.metrics().get("dropped_total unanswered", 0) > 0)
            assert not counted(shadow, "differing"), shadow.lines
        again = Shadow(gateway, a.models_dir)
        again.start()
        again.kill()
        since = len(gateway.lines)
        until(lambda: len(gateway.lines) > since + 100)
    load.assert_clean(300)
    assert users_are_answered_by_a(gateway)
    seconds = sorted(line["seconds"] for line in gateway.lines if line["model"])
    assert seconds[len(seconds) // 2] < 0.1, "half of the requests would wait for a service that is not there"


def ask(gateway: Gateway) -> tuple[int, bytes, dict[str, str]]:
    """One request whose tensors are JSON."""
    given = {"name": "x", "datatype": "FP32", "shape": [1, 6], "data": [1, 2, 3, 4, 5, 6]}
    return gateway.ask("POST", "/v2/models/scale/infer", json.dumps({"inputs": [given]}).encode())
