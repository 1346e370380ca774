"""The agent's figures out of Triton's counters, and where it finds the servers."""

from __future__ import annotations

import socket

import pytest
from ops.errors import OpsError
from support.stack import ROOT

from cluster.agent import servers
from cluster.agent.metrics import Window, parse


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_counters_are_read_from_what_triton_writes() -> None:
    text = (ROOT / "tests" / "samples" / "metrics.txt").read_text()
    names = [
        line.split('model="')[1].split('"')[0] for line in text.splitlines() if "request_success{" in line
    ]
    found = parse(text, names[0], 1)
    assert found[0] > 0
    assert found[2] > 0
    assert parse(text, names[0], 99) == (0.0, 0.0, 0.0)


def test_a_window_counts_what_grew_and_survives_a_server_that_starts_anew() -> None:
    clock = Clock()
    window = Window(clock)
    window.of(1)
    assert window.figures()["mean_ms"] is None
    window.counted("s", (100, 1, 5_000_000))  # before this window: not its own
    window.counted("s", (110, 2, 5_050_000))
    window.counted("s", (4, 0, 8_000))  # started anew
    figures = window.figures()
    assert (figures["requests"], figures["failures"]) == (15, 1)
    assert figures["mean_ms"] == pytest.approx(58 / 14, abs=0.001)
    for ms in range(1, 101):
        window.probed(ms)
    figures = window.figures()
    assert (figures["probes"], figures["probe_p99_ms"]) == (100, 99)
    assert figures["probe_slowest_ms"] == list(range(86, 101))
    clock.now = 500
    assert window.figures()["requests"] == 0
    window.probed(7)
    window.of(2)
    assert window.figures()["probe_p99_ms"] is None


def test_where_the_servers_are() -> None:
    one, two = servers.find("a:8000:8001, b:1:2:9", "n")
    assert (one.name, one.http, one.grpc, one.metrics) == ("a:8000:8001", 8000, 8001, 8002)
    assert two.metrics == 9
    assert servers.find("dns:no-such-name.invalid:8000:8001", "n") == []


def test_a_name_with_several_addresses_is_as_many_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int, *_: object) -> list[tuple[object, ...]]:
        return [(2, 1, 6, "", (address, port)) for address in ("10.0.0.2", "10.0.0.1", "10.0.0.2")]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    found = servers.find("triton:8000:8001:8002", "n")
    assert [(p.host, p.http, p.metrics) for p in found] == [
        ("10.0.0.1", 8000, 8002),
        ("10.0.0.2", 8000, 8002),
    ]


@pytest.mark.parametrize("setting", ["", "a", "a:1", "a:x:2", "a:1:99999", ":1:2"])
def test_what_names_no_server_is_refused(setting: str) -> None:
    with pytest.raises(OpsError, match="TRITON_SERVERS"):
        servers.find(setting, "n")
