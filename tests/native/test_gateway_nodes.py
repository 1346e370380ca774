"""Several real Tritons behind one name: servers come and go, canaries get their share, nothing fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.gateway import Gateway
from support.models import write_scale
from support.nodes import Nodes, running

from models_volume import traffic
from models_volume.layout import Volume
from models_volume.traffic import Canary


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """node-a and node-b with the same model."""
    folder = tmp_path_factory.mktemp("nodes")
    spec = write_scale(folder / "spec")
    with running(folder, {"node-a": spec, "node-b": spec}) as nodes:
        yield nodes


@pytest.fixture
def gateway(nodes: Nodes, tmp_path: Path) -> Iterator[Gateway]:
    nodes.named("node-a", "node-b")
    with Gateway(nodes.stacks["node-a"], tmp_path, **nodes.environ) as gateway:
        yield gateway


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def servers(gateway: Gateway, since: int = 0, protocol: str = "") -> dict[str, int]:
    """How many requests each server answered, by the access log."""
    found: dict[str, int] = {}
    for line in gateway.lines[since:]:
        if line["server"] and protocol in line["protocol"]:
            found[line["server"]] = found.get(line["server"], 0) + 1
    return found


def test_servers_come_and_go_under_load_and_no_request_fails(nodes: Nodes, tmp_path: Path) -> None:
    nodes.named("node-a")
    with Gateway(nodes.stacks["node-a"], tmp_path, **nodes.environ) as gateway:
        with gateway.load(nodes.stacks["node-a"]) as load:
            until(lambda: len(gateway.lines) > 50)
            assert set(servers(gateway)) == {"node-a"}, "the log names a server by Triton's id"
            nodes.named("node-a", "node-b")
            until(lambda: servers(gateway).get("node-b", 0) > 50)
            nodes.named("node-b")
            until(lambda: "drains" in gateway.log.read_text())
            time.sleep(0.5)
            since = len(gateway.lines)
            nodes.named()  # as Docker answers while all containers are being replaced
            until(lambda: len(gateway.lines) > since + 100)
            assert set(servers(gateway, since)) == {"node-b"}, "a drained server gets nothing any more"
            until(lambda: "cannot be looked up" in gateway.log.read_text())
            nodes.named("node-a", "node-b")
            until(lambda: servers(gateway, since).get("node-a", 0) > 50)
        assert "reloaded" not in gateway.log.read_text()
    load.assert_clean(500)


def test_a_canary_gets_its_share_over_http_and_grpc_without_a_reload(nodes: Nodes, gateway: Gateway) -> None:
    volume = Volume(nodes.stacks["node-a"].models_dir)
    share, many = 0.2, 2000
    traffic.write(volume, {"scale": Canary(("node-b",), share=share)})
    until(lambda: "shares.map: 1 entries" in gateway.log.read_text())
    since = len(gateway.lines)
    with gateway.load(nodes.stacks["node-a"]) as load:
        until(lambda: min(_counted(gateway, since).values()) >= many, 90)
    load.assert_clean(2 * many)
    for protocol in ("http/1.1", "grpc"):
        found = servers(gateway, since, protocol)
        total = sum(found.values())
        # Five standard deviations of a binomial count: one run in two million is outside by chance.
        within = 5 * (total * share * (1 - share)) ** 0.5
        assert abs(found["node-b"] - share * total) < within, (protocol, found)
    volume.traffic.write_text("{")
    until(lambda: "no canary" in gateway.log.read_text())
    until(lambda: "shares.map: 0 entries" in gateway.log.read_text())
    since = len(gateway.lines)
    with gateway.load(nodes.stacks["node-a"]) as load:
        until(lambda: sum(servers(gateway, since).values()) > 400)
    load.assert_clean(400)
    found = servers(gateway, since)
    assert found["node-b"] > 0.3 * sum(found.values()), "even again"
    time.sleep(2)
    volume.traffic.unlink()
    assert gateway.log.read_text().count("no canary") == 1, "said once"
    assert "reloaded" not in gateway.log.read_text()


def _counted(gateway: Gateway, since: int) -> dict[str, int]:
    return {p: sum(servers(gateway, since, p).values()) for p in ("http/1.1", "grpc")}


def test_a_canary_that_dies_fails_nothing_and_is_all_that_is_left_when_the_others_stop(
    nodes: Nodes, gateway: Gateway
) -> None:
    """It comes again by its name, which is there before Triton listens, and Triton before its models are."""
    a, b = nodes.stacks["node-a"], nodes.stacks["node-b"]
    volume = Volume(a.models_dir)
    traffic.write(volume, {"scale": Canary(("node-b",), share=0.5)})
    until(lambda: "shares.map: 1 entries" in gateway.log.read_text())
    with gateway.load(a, clients=2) as load:
        until(lambda: servers(gateway).get("node-b", 0) > 50)
        b.kill()
        since = len(gateway.lines)
        until(lambda: len(gateway.lines) > since + 100)
        nodes.up("node-b")
        until(lambda: servers(gateway, since).get("node-b", 0) > 20)
        a.stop()
        since = len(gateway.lines)
        until(lambda: servers(gateway, since).get("node-b", 0) > 100)
    load.assert_clean(300)
    volume.traffic.unlink()
