"""TRITON_COUNT=2: two Tritons on this machine behind the gateway, without Docker."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ops.settings import PORTS_APART
from support.models import write_scale
from support.stack import Load, Stack, free_ports

from triton.cpu import leftovers


def ports() -> tuple[int, int, int]:
    """Ports whose hundred neighbours are free too, as far as a look tells."""
    while True:
        found = free_ports(3)
        both = [*found, *(port + PORTS_APART for port in found)]
        if len(set(both)) == 6 and max(both) < 65536:
            return (found[0], found[1], found[2])


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "models", TRITON_COUNT="2", TRITON_ID="box")
    stack.http, stack.grpc, stack.metrics = ports()
    gateway, metrics, pictures, shadow = free_ports(4)
    stack.env.update(
        HTTP_PORT=str(stack.http),
        GRPC_PORT=str(stack.grpc),
        METRICS_PORT=str(stack.metrics),
        GATEWAY_PORT=str(gateway),
        GATEWAY_METRICS_PORT=str(metrics),
        GATEWAY_ADDRESS="127.0.0.1",
        PICTURES_PORT=str(pictures),
        SHADOW_PORT=str(shadow),
        KEYS_FILE=str(tmp_path / "keys"),
    )
    yield stack
    stack.run("down")
    stack.kill()
    leftovers.remove(stack.models_dir / "run" / "backends-1")


def states(stack: Stack) -> dict[str, str]:
    return {row["name"]: row["state"] for row in stack.status()["servers"]}


def test_two_servers_are_proven_behind_the_gateway_and_one_that_died_is_named(
    two: Stack, tmp_path: Path
) -> None:
    spec = write_scale(tmp_path / "spec")
    alone = two.run("up", "--runtime", "native", "--device", "cpu", "--model", spec)
    assert alone.returncode == 1
    assert "TRITON_COUNT is 2" in alone.stderr
    assert "--profile gateway" in alone.stderr, "told before anything is built"
    two.up(spec, options=("--profile", "gateway"))
    assert states(two) == {"box-gpu0": "running", "box-gpu1": "running"}

    key = two.key("somebody")
    port = int(two.env["GATEWAY_PORT"])
    ca = two.models_dir / "run" / "gateway" / "certificate.pem"
    with Load(port, port, two.models_dir, 4, through=(ca, key)) as load:
        time.sleep(1)
        done = two.run("redeploy", "--model", write_scale(tmp_path / "spec", factor=3.0))
        assert done.returncode == 0, done.stderr
        done = two.run("rollback")
        assert done.returncode == 0, done.stderr
        time.sleep(0.5)
    load.assert_clean(500)
    assert len(load.result["versions"]) == 2
    log = (two.models_dir / "run" / "gateway.log").read_text()
    assert '"server":"box-gpu0"' in log
    assert '"server":"box-gpu1"' in log

    [second] = [row for row in two.status()["servers"] if row["name"] == "box-gpu1"]
    os.killpg(second["pid"], signal.SIGKILL)
    assert states(two)["box-gpu1"] == "stopped"
    shown = two.run("status")
    assert shown.returncode == 1
    assert "box-gpu1" in shown.stdout
    refused = two.run("redeploy", "--model", write_scale(tmp_path / "spec", factor=4.0))
    assert refused.returncode == 1
    assert "box-gpu1 (stopped)" in refused.stderr
    two.up(write_scale(tmp_path / "spec"), options=("--profile", "gateway"))
    assert states(two) == {"box-gpu0": "running", "box-gpu1": "running"}
    said = two.run("down").stdout
    assert said.count("Triton (process") == 2, said
