"""A real HAProxy before a real Triton: what clients meet, and what happens while things change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from support.gateway import Gateway
from support.models import write_free, write_scale
from support.stack import Stack, free_ports
from tritonclient.utils import InferenceServerException

from gateway import keys

X = np.arange(12, dtype=np.float32).reshape(2, 6)
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 6], "data": [1, 2, 3, 4, 5, 6]}]}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A native stack with the models ``scale`` (x FP32 [N, 6]) and ``free`` (x FP32 [N, 2..9])."""
    folder = tmp_path_factory.mktemp("served")
    stack = Stack(folder / "models")
    stack.up(write_scale(folder / "spec"), write_free(folder / "spec"))
    yield stack
    stack.kill()


@pytest.fixture(scope="module")
def gateway(served: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(served, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


def http(gateway: Gateway) -> tritonclient.http.InferenceServerClient:
    return tritonclient.http.InferenceServerClient(
        f"127.0.0.1:{gateway.port}", ssl=True, ssl_options={"ca_certs": str(gateway.ca)}
    )


def grpc(gateway: Gateway) -> tritonclient.grpc.InferenceServerClient:
    return tritonclient.grpc.InferenceServerClient(
        f"localhost:{gateway.port}", ssl=True, root_certificates=str(gateway.ca)
    )


def tensor(module: object, array: np.ndarray = X, **options: bool) -> object:
    made = module.InferInput("x", list(array.shape), "FP32")  # type: ignore[attr-defined]
    made.set_data_from_numpy(array, **options)
    return made


@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_works_over_http(gateway: Gateway, binary: bool) -> None:
    with http(gateway) as client:
        asked = tritonclient.http.InferRequestedOutput("scores", binary_data=binary)
        given = [tensor(tritonclient.http, binary_data=binary)]
        answer = client.infer("scale", given, outputs=[asked], headers=gateway.headers, request_id="a-1")
        assert np.array_equal(answer.as_numpy("scores"), X * 2)
        assert client.is_server_live(headers=gateway.headers)
        assert client.is_server_ready(headers=gateway.headers)
        assert client.is_model_ready("scale", "1", headers=gateway.headers)
        assert client.get_server_metadata(headers=gateway.headers)["name"] == "triton"
        assert client.get_model_metadata("scale", headers=gateway.headers)["name"] == "scale"
        assert client.get_model_config("scale", headers=gateway.headers)["max_batch_size"] == 8
        assert client.get_inference_statistics("scale", headers=gateway.headers)["model_stats"]


def test_tritonclient_works_over_grpc(gateway: Gateway) -> None:
    with grpc(gateway) as client:
        answer = client.infer("scale", [tensor(tritonclient.grpc)], headers=gateway.headers)
        assert np.array_equal(answer.as_numpy("scores"), X * 2)
        assert client.is_server_live(headers=gateway.headers)
        assert client.is_server_ready(headers=gateway.headers)
        assert client.is_model_ready("scale", "1", headers=gateway.headers)
        assert client.get_server_metadata(headers=gateway.headers).name == "triton"
        assert client.get_model_metadata("scale", headers=gateway.headers).name == "scale"
        assert client.get_model_config("scale", headers=gateway.headers).config.max_batch_size == 8
        assert client.get_inference_statistics("scale", headers=gateway.headers).model_stats


def test_tritonclient_works_with_asyncio(gateway: Gateway) -> None:
    async def ask() -> list[np.ndarray]:
        context = ssl.create_default_context(cafile=str(gateway.ca))
        async with tritonclient.http.aio.InferenceServerClient(
            f"localhost:{gateway.port}", ssl=True, ssl_context=context
        ) as one, tritonclient.grpc.aio.InferenceServerClient(
            f"localhost:{gateway.port}", ssl=True, root_certificates=str(gateway.ca)
        ) as other:
            many = [
                client.infer("scale", [tensor(module, X + n)], headers=gateway.headers)
                for n in range(10)
                for client, module in ((one, tritonclient.http), (other, tritonclient.grpc))
            ]
            return [answer.as_numpy("scores") for answer in await asyncio.gather(*many)]

    answers = asyncio.run(ask())
    assert all(np.array_equal(answer, (X + n // 2) * 2) for n, answer in enumerate(answers))


def test_what_is_refused_over_http_says_why_as_json(gateway: Gateway) -> None:
    for status, method, path, body, headers in (
        (401, "GET", "/v2", None, {"authorization": "Bearer wrong"}),
        (403, "GET", "/v2/models/nope", None, {}),
        (403, "POST", "/v2/repository/index", b"{}", {}),
        (403, "GET", "//v2", None, {}),
        (403, "GET", "/v2/models/%73cale", None, {}),
        (403, "GET", "/v2/models/../models/scale", None, {}),
        (400, "POST", "/v2/models/scale/infer", b"{}", {}),
        (415, "POST", "/v2/models/scale/infer", b"x", {"content-encoding": "gzip"}),
        (503, "POST", "/v1/models/scale/classify", b"x", {}),
    ):
        found, text, _ = gateway.ask(method, path, body, {**headers, "x-request-id": "refused"})
        assert found == status, (path, text)
        assert json.loads(text)["error"]


def test_what_is_refused_over_grpc_is_a_grpc_status(gateway: Gateway) -> None:
    def status(ask: object) -> str:
        with pytest.raises(InferenceServerException) as refusal:
            ask()  # type: ignore[operator]
        return str(refusal.value.status())

    with grpc(gateway) as client:
        given, headers = [tensor(tritonclient.grpc)], gateway.headers
        assert "UNAUTHENTICATED" in status(lambda: client.infer("scale", given))
        assert "PERMISSION_DENIED" in status(lambda: client.infer("nope", given, headers=headers))
        assert "PERMISSION_DENIED" in status(lambda: client.get_model_repository_index(headers=headers))
        assert "PERMISSION_DENIED" in status(lambda: client.load_model("scale", headers=headers))
        assert "UNIMPLEMENTED" in status(
            lambda: client.infer("scale", given, headers=headers, compression_algorithm="gzip")
        )
        long = [tensor(tritonclient.grpc, np.zeros((100_000, 6), np.float32))]
        assert "RESOURCE_EXHAUSTED" in status(lambda: client.infer("scale", long, headers=headers))


def test_the_access_log_has_what_happened(gateway: Gateway) -> None:
    body = json.dumps(BODY).encode()
    _, _, headers = gateway.ask("POST", "/v2/models/scale/versions/1/infer", body, {"x-request-id": "log-1"})
    assert headers["x-request-id"] == "log-1"
    line = gateway.line("log-1")
    assert {k: line[k] for k in ("key", "model", "version", "protocol", "method", "status", "server")} == {
        "key": "tester",
        "model": "scale",
        "version": "1",
        "protocol": "http/1.1",
        "method": "POST",
        "status": 200,
        "server": "triton1",
    }
    assert 0 < line["seconds_server"] <= line["seconds"] < 10
    assert line["bytes_in"] > len(body)
    _, _, headers = gateway.ask("GET", "/v2", None, {"x-request-id": 'a" "b'})
    assert len(headers["x-request-id"]) == 36, "not one plain word: another id is made"
    gateway.ask("GET", '/v2/"quoted"', None, {"x-request-id": "log-2"})
    line = gateway.line("log-2")
    assert (line["status"], line["path"]) == (403, '/v2/"quoted"')
    assert "not allowed" in line["reason"]


def test_a_key_has_its_limits(served: Stack, tmp_path: Path) -> None:
    with Gateway(served, tmp_path, GATEWAY_RATE="5") as gateway:
        other = {"authorization": f"Bearer {keys.add(gateway.keys, 'other')}"}
        found = [gateway.ask("GET", "/v2") for _ in range(12)]
        assert [status for status, _, _ in found[:5]] == [200] * 5
        assert {status for status, _, _ in found} == {200, 429}
        status, text, headers = found[-1]
        assert (status, headers["retry-after"]) == (429, "1")
        assert "tester is limited to 5 requests a second" in json.loads(text)["error"]
        with grpc(gateway) as client, pytest.raises(InferenceServerException, match="RESOURCE_EXHAUSTED"):
            client.is_server_live(headers=gateway.headers)
        time.sleep(1)
        assert gateway.ask("GET", "/v2", headers=other)[0] == 200, "another key has its own"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["h2"], "h2"),
        (["http/1.1"], "http/1.1"),
        (["h2", "http/1.1"], "h2"),
        (["http/1.1", "h2"], "h2"),
        ([], None),
        (["spdy/3"], None),
    ],
)
def test_alpn_chooses_between_grpc_and_http_on_the_one_port(
    gateway: Gateway, offered: list[str], chosen: str | None
) -> None:
    context = ssl.create_default_context(cafile=str(gateway.ca))
    context.set_alpn_protocols(offered)
    with socket.create_connection(("127.0.0.1", gateway.port), 5) as plain, context.wrap_socket(
        plain, server_hostname="localhost"
    ) as connection:
        assert connection.selected_alpn_protocol() == chosen
        assert connection.version() in {"TLSv1.2", "TLSv1.3"}


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_what_is_large_or_not_tls_gets_an_end(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as plain:
        plain.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert plain.recv(100)[:5] != b"HTTP/", "no TLS, no answer"
        assert plain.recv(100) == b""
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError), socket.create_connection(("127.0.0.1", gateway.port), 5) as raw:
        old.wrap_socket(raw)
    assert gateway.ask("GET", "/v2", headers={"x-large": "a" * 40_000})[0] == 431
    assert gateway.ask("GET", "/v2/" + "a" * 600)[0] == 414
    body = json.dumps({"inputs": [], "id": "a" * (1 << 20)}).encode()
    # Refused while it is sending: the end may overtake the answer.
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        assert gateway.ask("POST", "/v2/models/scale/infer", body)[0] == 413
    headers = {**gateway.headers, "transfer-encoding": "chunked"}
    connection = gateway.connection()
    connection.putrequest("POST", "/v2/models/scale/infer")
    for header in headers.items():
        connection.putheader(*header)
    connection.endheaders()  # the answer does not wait for a body
    assert connection.getresponse().status == 411, "chunks may end with headers, which Triton cannot take"


def test_a_large_body_is_answered_before_it_is_sent(gateway: Gateway) -> None:
    """curl waits for "100 Continue", and reads the refusal of what it has not sent yet."""
    argv = ["curl", "--silent", "--insecure", "--write-out", "%{http_code}", "--output", "/dev/null"]
    argv += ["--data-binary", "@-", f"https://127.0.0.1:{gateway.port}/v2/models/scale/infer"]
    for size, version in ((20 << 20, "--http1.1"), (60_000, "--http2")):
        done = subprocess.run([*argv, version], input=b"x" * size, capture_output=True, check=False)
        assert done.stdout == b"401", (version, done.stderr)
    with_key = [*argv, "--http2", "-H", f"Authorization: Bearer {gateway.key}"]
    done = subprocess.run(with_key, input=b"x" * 80_000, capture_output=True, check=False)
    assert done.stdout == b"400", done.stderr


def test_up_with_the_profile_starts_it_and_down_stops_it(stack: Stack, tmp_path: Path) -> None:

    ports = free_ports(4)
    stack.env.update(
        GATEWAY_PORT=str(ports[0]),
        GATEWAY_METRICS_PORT=str(ports[1]),
        GATEWAY_ADDRESS="127.0.0.1",
        PICTURES_PORT=str(ports[2]),
        SHADOW_PORT=str(ports[3]),
        KEYS_FILE=str(tmp_path / "keys"),
    )
    done = stack.up(write_scale(tmp_path / "spec"), options=("--profile", "gateway"))
    assert f"https://127.0.0.1:{ports[0]}" in done.stdout
    key = stack.run("keys", "add", "somebody").stdout.strip()
    assert stack.run("keys", "list").stdout == "somebody\n"
    curl = ["curl", "--silent", "--insecure", "--retry", "5", "--retry-all-errors", "--fail"]

    argv = [*curl, f"https://127.0.0.1:{ports[0]}/v2/models/scale", "-H", f"Authorization: Bearer {key}"]
    answer = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)["name"] == "scale"
    services = {service["name"]: service["state"] for service in stack.status()["services"]}
    assert services == {"pictures": "running", "shadow": "running", "gateway": "running"}
    done = stack.run("down")
    assert "gateway (process" in done.stdout, done.stdout
    assert stack.status()["services"] == []
