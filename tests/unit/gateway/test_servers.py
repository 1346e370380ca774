"""Servers that are found: who gets which slot, when it is free again, and what HAProxy is told."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.gateway.test_configuration import made

from gateway import discovery, shares
from gateway.discovery import Discovery, Found, Known
from gateway.errors import GatewayError
from gateway.options import Triton, servers
from gateway.pool import Pool
from gateway.servers import DRAIN, MAINT, NOWHERE, READY, Server, commands, lines, names
from models_volume import traffic
from models_volume.errors import VolumeError
from models_volume.layout import Volume
from models_volume.traffic import Canary

NAME = Triton("triton", 8000, 8001, dns=True)
FIXED = Triton("10.1.0.1", 8000, 8001)


def found(*hosts: str, models: tuple[str, ...] = ("m",)) -> Found:
    known = {(host, 8000): Known(f"node-{host[-1]}", frozenset(models)) for host in hosts}
    return Found({NAME: hosts}, known)


def states(pool: Pool) -> dict[str, str]:
    return {s.host: s.state for s in pool.servers if s.host != NOWHERE}


def test_words_name_servers_and_names() -> None:
    assert servers("dns:tasks.triton:8000:8001 10.1.0.1:8000:8001") == [
        Triton("tasks.triton", 8000, 8001, dns=True),
        FIXED,
    ]
    with pytest.raises(GatewayError, match="dns:"):
        servers("dns:triton:8000")


def test_a_server_that_leaves_drains_and_its_slot_is_taken_when_nothing_is_in_hand() -> None:
    pool = Pool([NAME, FIXED])
    pool.update(found("10.0.0.1", "10.0.0.2"), (), now=0)
    assert states(pool) == {"10.1.0.1": READY, "10.0.0.1": READY, "10.0.0.2": READY}
    pool.update(found("10.0.0.2"), (), now=1)
    assert states(pool)["10.0.0.1"] == DRAIN
    pool.update(found("10.0.0.2", "10.0.0.3"), {"dns1_1"}, now=4)
    assert {s.host: s.name for s in pool.servers if s.slot}["10.0.0.3"] == "dns1_3", "the first is still busy"
    pool.update(found("10.0.0.2", "10.0.0.3"), (), now=5)
    assert "10.0.0.1" not in states(pool)
    pool.update(found("10.0.0.2", "10.0.0.3", "10.0.0.4"), (), now=6)
    assert {s.host: s.name for s in pool.servers if s.slot}["10.0.0.4"] == "dns1_1"


def test_a_server_that_comes_back_while_it_drains_keeps_its_slot() -> None:
    pool = Pool([NAME])
    pool.update(found("10.0.0.1"), (), now=0)
    pool.update(found(), (), now=1)
    assert pool.draining()
    pool.update(found("10.0.0.1"), (), now=1.5)
    assert states(pool) == {"10.0.0.1": READY}
    assert not pool.draining()


def test_more_servers_than_slots_make_more_slots_and_a_reload() -> None:
    pool = Pool([NAME])
    before = pool.blank()
    pool.update(found(*(f"10.0.0.{n}" for n in range(1, 9))), (), now=0)
    assert pool.blank() == before, "in the running process"
    pool.update(found(*(f"10.0.0.{n}" for n in range(1, 10))), (), now=0)
    assert len(pool.blank()) == 16


def test_a_new_server_gets_only_requests_of_models_that_it_was_ready_for() -> None:
    pool = Pool([NAME])
    pool.update(found("10.0.0.1", models=("m",)), (), now=0)
    now = lines(["m", "other"], pool.servers, {})
    assert now["http_m/dns1_1"].state == now["grpc_m/dns1_1"].state == now["http/dns1_1"].state == READY
    assert now["http_other/dns1_1"].state == MAINT


def test_only_what_differs_is_told() -> None:
    pool = Pool([NAME])
    empty = lines(["m"], pool.servers, {})
    pool.update(found("10.0.0.1"), (), now=0)
    here = lines(["m"], pool.servers, {})
    assert commands(empty, here)[:2] == [
        "set server http/dns1_1 addr 10.0.0.1",
        "set server http/dns1_1 state ready",
    ]
    assert commands(here, here) == []
    canary = lines(["m"], pool.servers, {"m": frozenset({"dns1_1"})})
    assert commands(here, canary) == [f"set server {p}_m/dns1_1 weight 0" for p in ("http", "grpc")]
    assert commands(canary, here) == [f"set server {p}_m/dns1_1 weight 1" for p in ("http", "grpc")]


def test_haproxy_takes_a_configuration_with_found_servers(tmp_path: Path) -> None:
    pool = Pool([NAME, FIXED])
    pool.update(found("10.0.0.1", "fd00::2"), (), now=0)
    text, said = made(tmp_path, ["m"], servers=pool.servers, canaries={"m": frozenset({"dns1_1"})})
    assert "WARNING" not in said, said
    backend = text.split("backend grpc_m\n")[1].split("\n\n")[0]
    found_lines = [line.split() for line in backend.splitlines() if line.strip().startswith("server dns")]
    assert found_lines[0][1:3] == ["dns1_1", "10.0.0.1:8001"]
    assert found_lines[0][-2:] == ["weight", "0"]
    assert found_lines[1][2] == "[fd00::2]:8001"
    assert "disabled" not in found_lines[1]
    assert all(line[-1] == "disabled" for line in found_lines[2:])


def test_the_log_has_triton_s_id_or_else_the_address_or_else_our_name() -> None:
    def server(slot: bool, server_id: str) -> Server:
        return Server("x", "10.0.0.1", 1, 2, slot=slot, id=server_id)

    assert names([server(True, "node-a"), server(False, "node-b")]) == [("x", "node-a"), ("x", "node-b")]
    assert names([server(True, "triton"), server(True, "")]) == [("x", "10.0.0.1")] * 2
    assert names([server(False, "triton"), server(False, "")]) == []


@pytest.fixture
def triton() -> Iterator[tuple[int, dict[str, object]]]:
    """What answers as Triton does to the two questions; its port, and what it has."""
    has: dict[str, object] = {"id": "node-a", "models": {"m"}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            model = self.path.split("/")[-2]
            good = self.path == "/v2" or model in has["models"]  # type: ignore[operator]
            self.send_response(200 if good else 400)
            self.end_headers()
            self.wfile.write(json.dumps({"name": has["id"]}).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, has
    server.shutdown()


def test_discovery(triton: tuple[int, dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> None:
    port, has = triton
    answer: list[str] | None = ["127.0.0.1"]

    def looked_up(_host: str) -> list[str]:
        if answer is None:
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return answer

    monkeypatch.setattr(discovery, "_looked_up", looked_up)
    monkeypatch.setattr(discovery, "_LOOK_SECS", 0)
    monkeypatch.setattr(discovery, "_ID_SECS", 0)
    monkeypatch.setattr(discovery, "_get", _get_here)
    name = Triton("triton", port, 1, dns=True)
    looks = Discovery([name])
    looks.models = frozenset({"m", "late"})
    looks.look()
    assert looks.found.servers["127.0.0.1", port] == Known("node-a", frozenset({"m"}))
    has["models"] = {"late"}
    looks.look()
    assert looks.found.servers["127.0.0.1", port].ready == {"m", "late"}, "once ready, the checks decide"
    has["id"] = "node-b"
    looks.look()
    assert looks.found.servers["127.0.0.1", port] == Known("node-b", frozenset({"late"})), "another server"
    answer = None
    looks.look()
    looks.look()
    assert looks.found.addresses[name] == ("127.0.0.1",), "no answer takes no server away"
    assert "triton" in looks.problems
    answer = ["127.0.0.2"]
    looks.look()
    assert looks.found.addresses[name] == ("127.0.0.1", "127.0.0.2"), "missing once is not gone"
    looks.look()
    assert looks.found.addresses[name] == ("127.0.0.2",)
    assert not looks.problems


def test_an_address_that_is_missing_is_looked_for_at_once_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["127.0.0.1", "127.0.0.2"], ["127.0.0.2"], ["127.0.0.2"]]
    monkeypatch.setattr(discovery, "_looked_up", lambda _host: answers.pop(0))
    monkeypatch.setattr(discovery, "_get", lambda *_: (0, b""))
    name = Triton("triton", 1, 1, dns=True)
    looks = Discovery([name])
    looks.look()
    looks.look()
    assert len(answers) == 2, "nothing has changed, so the next look-up is due in two seconds"
    with monkeypatch.context() as due:
        due.setattr(discovery, "_LOOK_SECS", 0)
        looks.look()
    assert looks.found.addresses[name] == ("127.0.0.1", "127.0.0.2")
    looks.look()
    assert looks.found.addresses[name] == ("127.0.0.2",)


_real_get = discovery._get


def _get_here(host: str, port: int, path: str) -> tuple[int, bytes]:
    return _real_get(host, port, path) if host == "127.0.0.1" else (0, b"")


def test_shares_need_canaries_and_others() -> None:
    here = [
        Server(f"s{n}", f"10.0.0.{n}", 8000, 8001, slot=True, models=frozenset("m"), id=f"n{n}")
        for n in (1, 2, 3)
    ]
    canaries = {"m": Canary(("n1", "10.0.0.3:8000:8001"), share=0.125)}
    split = shares.splits(canaries, ["m", "x"], here)
    assert shares.rows(canaries, split) == [("m", "125000,s1,s3")]
    assert shares.without_weight(canaries, split) == {"m": {"s1", "s3"}}
    assert shares.shadow_rows(canaries, split) == []
    copied = {"m": Canary(("n1",), shadow=0.5)}
    assert shares.shadow_rows(copied, shares.splits(copied, ["m"], here)) == [
        ("m", "500000;10.0.0.1:8000;10.0.0.2:8000,10.0.0.3:8000")
    ]
    even = {"m": Canary(("n1",))}
    assert shares.rows(even, shares.splits(even, ["m"], here)) == []
    assert not shares.without_weight(even, shares.splits(even, ["m"], here))
    every = {"m": Canary(("n1", "n2", "n3"), share=0.5)}
    assert shares.splits(every, ["m"], here) == {}, "there is nobody to share with"
    assert shares.splits({"m": Canary(("gone",), share=0.5)}, ["m"], here) == {}


def test_a_node_s_servers_are_those_of_its_name() -> None:
    assert traffic.of_node("node-a", "node-a")
    assert traffic.of_node("node-a-gpu1", "node-a")
    assert not traffic.of_node("node-ab", "node-a")
    assert not traffic.of_node("node-a-gpu", "node-a")


def test_the_file_of_canaries(tmp_path: Path) -> None:
    volume = Volume(tmp_path)
    assert traffic.read(volume) == {}
    wanted = {"m": Canary(("node-a",), 0.1, None), "x": Canary((), None, 1.0)}
    traffic.write(volume, wanted)
    assert traffic.read(volume) == wanted
    for text in (
        "",
        "[]",
        '{"models": []}',
        '{"models": {"m": {}}}',
        '{"models": {"m": {"canary_servers": "a"}}}',
        '{"models": {"m": {"canary_servers": [], "share": 2}}}',
        '{"models": {"m": {"canary_servers": [], "shadow": true}}}',
    ):
        volume.traffic.write_text(text)
        with pytest.raises(VolumeError, match="next: "):
            traffic.read(volume)
