"""The address of the access log: looked up beside everything else, however long a name server takes."""

from __future__ import annotations

import socket
import time

import pytest

from gateway import log_address
from gateway.log_address import LogAddress


def until(address: LogAddress, expected: str) -> None:
    end = time.monotonic() + 5
    while address.now != expected:
        assert time.monotonic() < end, address.now
        time.sleep(0.01)


def test_a_name_is_followed_and_may_be_gone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"exporter": "10.0.0.1"}

    def look_up(host: str) -> str:
        if host not in answers:
            raise socket.gaierror("unknown")
        return answers[host]

    monkeypatch.setattr(socket, "gethostbyname", look_up)
    monkeypatch.setattr(log_address, "_EVERY_SECS", 0.01)
    address = LogAddress("exporter:5140")
    address.start()
    assert address.now == "10.0.0.1:5140"
    answers["exporter"] = "10.0.0.2"
    until(address, "10.0.0.2:5140")
    answers.clear()
    until(address, "")


def test_a_slow_name_server_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", lambda _: time.sleep(8))
    monkeypatch.setattr(log_address, "_FIRST_SECS", 0.2)
    address = LogAddress("exporter:5140")
    began = time.monotonic()
    address.start()
    assert time.monotonic() - began < 2
    assert address.now == ""


def test_without_one_nothing_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", pytest.fail)
    address = LogAddress("")
    address.start()
    assert address.now == ""
