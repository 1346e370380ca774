"""The exporter: lines of the access log in, bounded and well-formed metrics out."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.stack import ROOT

from monitoring.exporter import access, certificate
from monitoring.exporter.exposition import Family, page
from monitoring.exporter.receiver import Receiver
from monitoring.exporter.traffic import BUCKETS, MOST_NAMES, Traffic

LINE: dict[str, Any] = {
    "time": "2026-11-24T10:00:00.123Z", "id": "0123abcd", "key": "alice", "model": "resnet50",
    "version": "3", "protocol": "http/1.1", "method": "POST", "path": "/v2/models/resnet50/infer",
    "status": 200, "grpc_status": None, "reason": "", "bytes_in": 150700, "bytes_out": 4200,
    "seconds": 0.0123, "seconds_server": 0.011, "server": "triton1", "client": "127.0.0.1",
}  # fmt: skip


def line(**changes: object) -> bytes:
    return json.dumps({**LINE, **changes}).encode()


def traffic() -> Traffic:
    return Traffic(lambda model: model == "resnet50")


def samples(counts: Traffic) -> dict[str, float]:
    # Lines of the format end with \n alone; splitlines() would cut a label's other separators too.
    lines = page(counts.families()).decode().removesuffix("\n").split("\n")
    return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if x[0] != "#")}


def test_a_line_of_the_gateway() -> None:
    assert access.parse(line() + b"\n") == access.Request(
        model="resnet50", key="alice", status="2xx", refused="", bytes_in=150700, bytes_out=4200,
        seconds=0.0123, seconds_server=0.011,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("http", "grpc", "status"),
    [
        (200, 0, "2xx"), (200, None, "2xx"), (204, None, "2xx"), (403, None, "4xx"), (503, None, "5xx"),
        (200, 3, "4xx"), (200, 7, "4xx"), (200, 16, "4xx"), (200, 8, "4xx"),  # the client's fault
        (200, 2, "5xx"), (200, 4, "5xx"), (200, 13, "5xx"), (200, 14, "5xx"),  # the server's
        (502, 14, "5xx"), (-1, None, "none"), (0, None, "none"),
    ],
)  # fmt: skip
def test_the_class_of_a_status(http: int, grpc: int | None, status: str) -> None:
    assert access.parse(line(status=http, grpc_status=grpc)).status == status


def test_what_a_request_did_not_come_to_is_nothing() -> None:
    """HAProxy's times are -1 for a request that no server saw."""
    request = access.parse(line(seconds_server=-0.001, bytes_out=None, model="", key=None, reason="no key"))
    assert (request.seconds_server, request.bytes_out, request.model, request.key) == (0, 0, "", "")


@pytest.mark.parametrize(
    "bad",
    [
        b"", b"\xff\xfe", b"{", b"[]", b"7", b"null", b"<134>haproxy: GET /", line()[:-20],
        b"[" * 60000, b'{"status":' * 20000, b'{"status": 1e999, "seconds": 1}',
        line(status="200"), line(status=True), line(status=None), line(seconds=None), line(seconds="1"),
        line(seconds=float("nan")), line(seconds=float("inf")), line(model=["a"]), line(key=7),
        line(bytes_in=10**400), line(model="\ud800"), line(reason={"a": 1}),
    ],
)  # fmt: skip
def test_a_malformed_line_is_refused(bad: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        access.parse(bad)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just([])
CHANGES = st.dictionaries(st.sampled_from(sorted(LINE)), VALUES, max_size=4)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=60) | CHANGES.map(lambda changes: line(**changes)))
@example(line(model="\ud800"))
@example(line(grpc_status=10**400))
@example(line(status=1e300))
def test_whatever_arrives_is_counted_or_refused(data: bytes) -> None:
    counts = Traffic(lambda _model: True)
    try:
        counts.add(access.parse(data))
    except ValueError:
        counts.other(data)
    page(counts.families()).decode()
    assert sum(v for k, v in samples(counts).items() if k.startswith("triton_stack_access_lines_total")) == 1


def test_the_histogram_is_cumulative_and_a_limit_belongs_to_its_bucket() -> None:
    counts = traffic()
    for seconds in (0.0005, 0.001, 0.2, 0.25, 99.0):
        counts.add(access.parse(line(seconds=seconds)))
    found = samples(counts)
    name = "triton_stack_request_duration_seconds"
    labels = 'model="resnet50",key="alice",status="2xx"'
    by_limit = [found[f'{name}_bucket{{{labels},le="{limit}"}}'] for limit in (*BUCKETS, "+Inf")]
    assert by_limit == [2, 2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 5]
    assert found[f"{name}_count{{{labels}}}"] == 5
    assert found[f"{name}_sum{{{labels}}}"] == pytest.approx(99.4515)
    assert found['triton_stack_server_seconds_total{model="resnet50"}'] == pytest.approx(0.055)
    assert found['triton_stack_received_bytes_total{model="resnet50",key="alice"}'] == 5 * 150700
    assert found['triton_stack_sent_bytes_total{model="resnet50",key="alice"}'] == 5 * 4200


def test_refusals_by_reason() -> None:
    counts = traffic()
    for status, grpc in ((401, None), (200, 16), (403, None), (429, None), (0, None), (418, None), (200, 8)):
        counts.add(access.parse(line(status=status, grpc_status=grpc, reason=f"a path: /{status}")))
    counts.add(access.parse(line(status=400)))  # Triton's answer, not the gateway's
    found = {k.split('"')[1]: v for k, v in samples(counts).items() if "refused" in k}
    assert found == {"no key": 2, "not allowed": 1, "over a limit": 2, "no request": 1, "other": 1}


def test_labels_are_bounded_whatever_clients_send() -> None:
    """A path may name any model, and anybody on the machine may send a datagram."""
    counts = traffic()
    counts.add(access.parse(line()))
    counts.add(access.parse(line(model="", key="")))
    for n in range(500):
        counts.add(access.parse(line(model=f"model{n}", key=f"key{n}", status=403, reason=f"model{n}")))
    found = samples(counts)
    labels = {name: {m for k in found for m in re.findall(f'{name}="([^"]*)"', k)} for name in (
        "model", "key", "reason", "status")}  # fmt: skip
    assert labels["model"] == {"resnet50", "none", "other"}
    assert len(labels["key"]) <= MOST_NAMES + 2
    assert {"alice", "none", "other"} <= labels["key"]
    assert labels["reason"] == {"not allowed"}
    assert labels["status"] == {"2xx", "4xx"}
    assert (
        sum(v for k, v in found.items() if k.startswith("triton_stack_request_duration_seconds_count")) == 502
    )


def test_the_text_is_what_prometheus_reads() -> None:
    family = Family("triton_stack_odd_total", "counter", "Odd labels.")
    family.add(1.5, name='a "quoted"\\\nname')
    assert (
        page([family]).decode().splitlines()[2] == r'triton_stack_odd_total{name="a \"quoted\"\\\nname"} 1.5'
    )
    assert page([Family("triton_stack_empty", "gauge", "Nothing.")]) == b""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool here: apt-get install prometheus")
    counts = traffic()
    counts.add(access.parse(line(status=401, reason="no key")))
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=page([*counts.families(), family]),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_receiver_counts_what_it_reads_cannot_read_and_lost() -> None:
    counts = traffic()
    receiver = Receiver("127.0.0.1", 0, counts)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gateway:
        gateway.connect(("127.0.0.1", receiver.port))
        assert receiver.lost() == 0
        sent = 0
        while receiver.lost() == 0:  # nobody reads yet: the kernel's buffer runs over
            gateway.send(line(path="/" + "x" * 30000))
            sent += 1
            assert sent < 10000
        lost = receiver.lost()
        receiver.start()
        for words in (b"Server http/triton1 is DOWN", b"", b'{"status": 200}'):
            gateway.send(words)
        end = time.monotonic() + 10
        while samples(counts)['triton_stack_access_lines_total{result="malformed"}'] < 1:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert samples(counts)['triton_stack_access_lines_total{result="request"}'] == sent - lost
    assert samples(counts)['triton_stack_access_lines_total{result="notice"}'] == 2
    assert receiver.lost() == lost


@pytest.mark.parametrize("end", ["20491231235959Z", "20500101000000Z", "20270102030405Z"])
def test_the_end_of_a_certificate(end: str, tmp_path: Path) -> None:
    """X.509 writes years before 2050 with two digits, and later ones with four."""
    der = make_certificate(tmp_path, end)
    wanted = time.strptime(end, "%Y%m%d%H%M%SZ")
    found = time.gmtime(certificate.not_after(der))
    assert found[:6] == wanted[:6]
    for cut in range(0, 120, 7):
        with pytest.raises(ValueError, match="certificate"):
            certificate.not_after(der[:cut])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=80))
def test_no_certificate_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        certificate.not_after(data)


def test_a_server_that_is_not_there_has_no_certificate() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        assert certificate.Certificate("127.0.0.1", taken.getsockname()[1]).not_after() is None


def make_certificate(folder: Path, end: str) -> bytes:
    """A certificate of openssl's, in DER."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here: apt-get install openssl")

    def run(*argv: str) -> None:
        subprocess.run([openssl, *argv], cwd=folder, check=True, capture_output=True)

    (folder / "index").touch()
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index\nserial=serial\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n"
        "[p]\ncommonName=supplied\n"
    )
    run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem",
        "-subj", "/CN=gateway", "-out", "req.pem")  # fmt: skip
    run("ca", "-batch", "-selfsign", "-config", "ca.cnf", "-keyfile", "key.pem", "-in", "req.pem",
        "-create_serial", "-startdate", "20200101000000Z", "-enddate", end, "-notext",
        "-out", "cert.pem")  # fmt: skip
    run("x509", "-in", "cert.pem", "-outform", "DER", "-out", "cert.der")
    return (folder / "cert.der").read_bytes()


def test_it_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """By itself, and not by the signal's default: a container's first process has none."""
    argv = ["--port=0", "--log-port=0", f"--models-dir={tmp_path}", "--triton=127.0.0.1:1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "monitoring.exporter", *argv], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline().startswith("metrics on ")
    process.terminate()
    process.communicate(timeout=10)
    assert process.returncode == 0
