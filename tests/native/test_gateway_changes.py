"""Keys, releases, servers and the gateway itself change under load, and no request with a valid key fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.gateway import Gateway
from support.models import write_free, write_scale, write_slow
from support.stack import Stack

from gateway import certificate, keys


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("served")
    stack = Stack(folder / "models")
    stack.up(write_scale(folder / "spec"))
    yield stack
    stack.kill()


def until(holds: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def infer(batch: int) -> bytes:
    """A request of the ``scale`` model."""
    data = [1.5] * (6 * batch)
    given = {"name": "x", "datatype": "FP32", "shape": [batch, 6], "data": data}
    return json.dumps({"inputs": [given]}).encode()


def test_a_key_works_at_once_and_no_more_after_its_revocation(served: Stack, tmp_path: Path) -> None:
    with Gateway(served, tmp_path) as gateway, gateway.load(served) as load:
        other = {"authorization": f"Bearer {keys.add(gateway.keys, 'other')}"}
        until(lambda: gateway.ask("GET", "/v2", headers=other)[0] == 200, 2)
        kept = gateway.connection()
        kept.request("GET", "/v2", headers=other)
        assert kept.getresponse().read()
        keys.revoke(gateway.keys, "other")
        until(lambda: gateway.ask("GET", "/v2", headers=other)[0] == 401, 2)
        kept.request("GET", "/v2", headers=other)
        assert kept.getresponse().status == 401, "an open connection is no way around it"
        assert "reloaded" not in gateway.log.read_text()
        time.sleep(1)
    load.assert_clean(200)


def test_a_damaged_keys_file_changes_nothing_and_is_reported(served: Stack, tmp_path: Path) -> None:
    with Gateway(served, tmp_path) as gateway:
        text = gateway.keys.read_text()
        gateway.keys.write_text(text + "who knows\n")
        until(lambda: "keys:2 is no key" in gateway.log.read_text())
        assert gateway.ask("GET", "/v2")[0] == 200
        gateway.keys.write_text(text)


def test_a_renewed_certificate_is_taken_and_a_broken_one_is_not(served: Stack, tmp_path: Path) -> None:
    def fingerprint() -> bytes:
        pem = ssl.get_server_certificate(("127.0.0.1", gateway.port))
        return hashlib.sha256(pem.encode()).digest()

    for name in "ab":
        (tmp_path / name).mkdir()
    given = tmp_path / "given.pem"
    given.write_bytes(certificate.pem(None, tmp_path / "a" / "own.pem", "127.0.0.1"))
    with Gateway(served, tmp_path, GATEWAY_CERT=str(given)) as gateway:
        first = fingerprint()
        other = certificate.pem(None, tmp_path / "b" / "own.pem", "127.0.0.1")
        mark = b"-----BEGIN CERTIFICATE-----"
        key, chain = given.read_bytes().partition(mark)[0], other.partition(mark)[2]
        given.write_bytes(key + mark + chain)
        until(lambda: "refuses its configuration" in gateway.log.read_text())
        assert fingerprint() == first
        given.write_bytes(other)
        until(lambda: fingerprint() != first)


def test_another_contract_goes_live_and_another_model(served: Stack, tmp_path: Path) -> None:
    """The former contract is taken as long as Triton may serve it, and the new one from its first moment."""
    with Gateway(served, tmp_path / "gateway") as gateway:
        assert gateway.ask("POST", "/v2/models/scale/infer", infer(12))[0] == 400
        with gateway.load(served) as load:
            served.up(write_scale(tmp_path / "a", max_batch=16), write_free(tmp_path / "b"))
            until(lambda: gateway.ask("GET", "/v2/models/free/ready")[0] == 200)
            status, text, _ = gateway.ask("POST", "/v2/models/scale/infer", infer(12))
            assert status == 200, text
            served.run("retire", "free")
            # One that comes when no server has the model any more, and the gateway has not looked yet, waits
            # for a server as long as GATEWAY_WAIT_SECS says: 30 s.
            until(lambda: gateway.ask("GET", "/v2/models/free/ready")[0] == 403, 60)
            time.sleep(1)
        assert gateway.log.read_text().count("reloaded") == 2
    load.assert_clean(200)
    assert len(load.result["versions"]) == 2


def test_a_server_that_is_replaced_is_waited_for(served: Stack, tmp_path: Path) -> None:
    """The only one: for some seconds nobody listens behind the gateway."""
    with Gateway(served, tmp_path) as gateway, gateway.load(served) as load:
        time.sleep(1)
        pid = served.status()["server"]["pid"]
        served.stop()
        served.up(write_scale(tmp_path / "spec"))
        assert served.status()["server"]["pid"] != pid
        time.sleep(1)
    load.assert_clean(200)


def test_one_of_two_servers_is_killed(served: Stack, tmp_path: Path) -> None:
    other = Stack(tmp_path / "models")
    other.up(write_scale(tmp_path / "spec", max_batch=16))
    both = f"127.0.0.1:{served.http}:{served.grpc} 127.0.0.1:{other.http}:{other.grpc}"
    try:
        with Gateway(served, tmp_path / "gateway", TRITON_SERVERS=both) as gateway:
            with gateway.load(served) as load:
                until(lambda: {"triton1", "triton2"} <= {line["server"] for line in gateway.lines})
                other.kill()
                killed = len(gateway.lines)
                time.sleep(3)
            late = {line["server"] for line in gateway.lines[killed + 50 :]}
            assert "triton2" not in late
        load.assert_clean(200)
    finally:
        other.kill()


def test_the_gateway_drains(tmp_path: Path, stack: Stack) -> None:
    """A request that takes some seconds is answered although the gateway is told to end meanwhile."""
    stack.up(write_slow(tmp_path / "spec"))
    found: list[int] = []
    with Gateway(stack, tmp_path / "gateway") as gateway:
        given = {"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [4000]}
        body = json.dumps({"inputs": [given]}).encode()

        def ask() -> None:
            found.append(gateway.ask("POST", "/v2/models/slow/infer", body)[0])

        idle = gateway.connection()
        idle.connect()
        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.7)
        assert gateway.process is not None
        os.kill(gateway.process.pid, signal.SIGTERM)
        assert not found, "the request was meant to be in flight when the signal came"
        until(lambda: not gateway.listens(), 1)
        thread.join()
        assert found == [200]
        assert gateway.process.wait(5) == 0, "an idle connection does not hold it up"
