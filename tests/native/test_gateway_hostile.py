"""Hostile and malformed requests to a real HAProxy before a real Triton: each gets the status it should, and
after every one of them Triton answers a golden inference.

HOSTILE_REQUESTS is how many requests the grammar makes (20000 by hand; fewer in the ordinary run).
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from hypothesis import HealthCheck, Phase, given, settings
from support import raw_http
from support.gateway import Gateway
from support.hostile_requests import GONE, GOOD, KEY, Case, cases, http1
from support.models import write_scale
from support.request_grammar import Request, requests
from support.stack import Stack
from tritonclient.grpc import service_pb2 as messages

from gateway import keys

SERVICE = "/inference.GRPCInferenceService/"
X = np.arange(12, dtype=np.float32).reshape(2, 6)
COUNT = int(os.environ.get("HOSTILE_REQUESTS") or 1500)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("served")
    stack = Stack(folder / "models")
    stack.up(write_scale(folder / "spec"))
    yield stack
    stack.kill()


@pytest.fixture(scope="module")
def gateway(served: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(served, tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def gone(gateway: Gateway) -> str:
    """A key that was valid once."""
    key = keys.add(gateway.keys, "gone")
    wait(lambda: gateway.ask("GET", "/v2", None, {"authorization": f"Bearer {key}"})[0] == 200)
    keys.revoke(gateway.keys, "gone")
    wait(lambda: gateway.ask("GET", "/v2", None, {"authorization": f"Bearer {key}"})[0] == 401)
    return key


def wait(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def golden(served: Stack) -> Iterator[Callable[[str], None]]:
    """Ask Triton itself, and compare."""
    with tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{served.grpc}") as client:
        tensor = tritonclient.grpc.InferInput("x", [2, 6], "FP32")
        tensor.set_data_from_numpy(X)

        def ask(after: str) -> None:
            scores = client.infer("scale", [tensor], client_timeout=10).as_numpy("scores")
            assert np.array_equal(scores, X * 2), f"after {after}"

        yield ask


def sent(gateway: Gateway, gone: str, case: Case) -> int:
    content = case.content
    for mark, key in ((KEY, gateway.key), (GONE, gone)):
        assert len(mark) == len(key)
        content = content.replace(mark, key.encode()).replace(mark[:-1], key[:-1].encode())
    patience = 0.5 if 0 in case.statuses else raw_http.PATIENCE
    how = {"http1": raw_http.http1, "http2": raw_http.http2, "plain": raw_http.plain}[case.kind]
    return how(gateway.port, content, patience)


def test_hostile_requests_get_the_status_they_should_and_triton_lives(
    gateway: Gateway, gone: str, golden: Callable[[str], None]
) -> None:
    wrong, count = [], 0
    for case in cases():
        count += 1
        status = sent(gateway, gone, case)
        golden(case.name)
        if status not in case.statuses:
            wrong.append(f"{case.name}: {status}, allowed {sorted(case.statuses)}")
    assert not wrong, "\n".join(wrong)
    assert count >= 120


def test_slow_clients_are_cut_off(gateway: Gateway, golden: Callable[[str], None]) -> None:
    """Headers and bodies that come a byte at a time, all at once, and meanwhile others are served."""
    line = http1("POST", "/v2/models/scale/infer", b"x" * 100, key=gateway.key.encode())
    body = len(line) - 100
    starts = {
        "no byte": b"",
        "half a header": line[:20],
        "half a body": line[: body + 10],
        "no body": line[:body],
    }
    ends: dict[str, float] = {}

    def drip(name: str, start: bytes) -> None:
        began = time.monotonic()
        with raw_http.connect(gateway.port, "http/1.1") as client:
            client.settimeout(0.5)
            client.sendall(start)
            while time.monotonic() - began < 40:
                try:
                    if not client.recv(4096):
                        break
                    if name != "no byte":
                        break
                except TimeoutError:
                    if start:
                        client.sendall(b"a")
                except OSError:
                    break
        ends[name] = time.monotonic() - began

    threads = [threading.Thread(target=drip, args=item) for item in starts.items()]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        golden("slow clients")
        assert gateway.ask("GET", "/v2")[0] == 200
        time.sleep(0.2)
    assert all(seconds < 30 for seconds in ends.values()), ends


def infer_message(**changed: object) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 6], **changed}
    raw = tensor.pop("raw", [np.arange(6, dtype=np.float32).tobytes()])
    model = tensor.pop("model", "scale")
    given = messages.ModelInferRequest.InferInputTensor(**tensor)
    message = messages.ModelInferRequest(model_name=model, inputs=[given], raw_input_contents=raw)
    return bytes(message.SerializeToString())


def grpc_cases() -> Iterator[tuple[str, bytes, set[str]]]:
    """Method, message and the statuses it may get."""
    denied = {"PERMISSION_DENIED"}
    methods = [m.name for m in messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
    let_in = {"ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig",
              "ModelStatistics", "ModelInfer"}  # fmt: skip
    assert let_in < set(methods)
    for method in sorted(set(methods) - let_in):
        yield SERVICE + method, b"", denied
    for path in (
        "/inference.grpcinferenceservice/ModelInfer",
        SERVICE + "modelInfer",
        SERVICE + "ModelInfer/",
        SERVICE + "%4dodelInfer",
        "/" + SERVICE + "ModelInfer",
        "/grpc.health.v1.Health/Check",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/x",
    ):
        yield path, infer_message(), denied
    infer, invalid = SERVICE + "ModelInfer", {"INVALID_ARGUMENT", "INTERNAL"}
    unread = {"PERMISSION_DENIED", "INVALID_ARGUMENT", "INTERNAL", "UNAVAILABLE"}
    yield infer, infer_message(), {"OK"}
    yield infer, infer_message(model="nobody"), denied
    yield infer, infer_message(model=""), denied
    yield infer, infer_message(model="x" * 100_000), denied | {"RESOURCE_EXHAUSTED"}
    yield infer, b"", denied
    yield infer, b"\xff" * 100, unread
    yield infer, infer_message()[:-10], unread
    yield (
        infer,
        infer_message() + b"\x0a\x06nobody",
        denied | {"INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE"},
    )
    yield infer, infer_message(raw=[bytes(8 << 20)]), {"RESOURCE_EXHAUSTED"}
    for shape in (
        [1, 2**62],
        [2**62, 6],
        [2**31, 2**31],
        [2**32, 2**32],
        [-1, 6],
        [-1, -6],
        [0, 6],
        [9, 6],
        [],
        [6],
    ):
        yield infer, infer_message(shape=shape), invalid
        contents = messages.InferTensorContents(fp32_contents=[1.0] * 6)
        yield infer, infer_message(shape=shape, raw=[], contents=contents), invalid
    yield infer, infer_message(raw=[]), invalid
    yield infer, infer_message(raw=[b"x"]), invalid
    yield infer, infer_message(raw=[bytes(24)] * 5), invalid | {"OK"}  # what is too much is not read
    yield infer, infer_message(datatype="BYTES", raw=[b"\xff\xff\xff\xff" + bytes(20)]), invalid
    yield infer, infer_message(name="y"), invalid
    region = messages.InferParameter(string_param="r")
    size = messages.InferParameter(int64_param=24)
    parameters = {"shared_memory_region": region, "shared_memory_byte_size": size}
    yield infer, infer_message(raw=[], parameters=parameters), invalid | {"NOT_FOUND", "INTERNAL"}
    for method in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
        yield SERVICE + method, messages.ModelReadyRequest(name="nobody").SerializeToString(), denied
        yield SERVICE + method, b"", denied


def test_hostile_grpc_requests_get_the_status_they_should_and_triton_lives(
    gateway: Gateway, gone: str, golden: Callable[[str], None]
) -> None:
    wrong = []
    identity = bytes
    channel = grpc.secure_channel(
        f"localhost:{gateway.port}", grpc.ssl_channel_credentials(gateway.ca.read_bytes())
    )

    def status(method: str, content: bytes, key: str, **options: object) -> str:
        call = channel.unary_unary(method, request_serializer=identity, response_deserializer=identity)
        try:
            call(content, timeout=10, metadata=[("authorization", f"Bearer {key}")], **options)
        except grpc.RpcError as e:
            return str(e.code().name)
        return "OK"

    with channel:
        for method, content, statuses in grpc_cases():
            found = status(method, content, gateway.key)
            golden(method)
            if found not in statuses:
                wrong.append(f"{method} {content[:40]!r}: {found}, allowed {sorted(statuses)}")
        infer = SERVICE + "ModelInfer"
        for key in ("", "wrong", gone):
            if (found := status(infer, infer_message(), key)) != "UNAUTHENTICATED":
                wrong.append(f"key {key}: {found}")
        found = status(infer, infer_message(), gateway.key, compression=grpc.Compression.Gzip)
        if found != "UNIMPLEMENTED":
            wrong.append(f"compressed: {found}")
        golden("gRPC")
    assert not wrong, "\n".join(wrong)


def test_generated_requests_are_refused_or_answered_and_triton_lives(
    gateway: Gateway, golden: Callable[[str], None]
) -> None:
    """Whatever the gate lets through, Triton answers; whatever is valid, it lets through."""
    connection = gateway.connection()
    seen: Counter[str] = Counter()

    def ask(request: Request) -> tuple[int, bytes]:
        nonlocal connection
        try:
            connection.request("POST", request.path, request.body, {**gateway.headers, **request.headers})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError):
            connection.close()
            connection = gateway.connection()
            connection.request("POST", request.path, request.body, {**gateway.headers, **request.headers})
            answer = connection.getresponse()
            return answer.status, answer.read()

    @settings(
        max_examples=COUNT,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(requests())
    def check(request: Request) -> None:
        status, text = ask(request)
        golden(repr(request))
        seen[f"{'valid' if request.wanted else 'changed'} {status}"] += 1
        assert status < 500, (status, text, request)
        if request.wanted is not None:
            assert status == 200, (status, text, request)
            part = text[: text.rindex(b"}") + 1]
            if b'"data"' in part:
                scores = json.loads(part)["outputs"][0]["data"]
                assert np.allclose(scores, np.float32(request.wanted)), request

    check()
    connection.close()
    print(dict(seen))
    assert seen["valid 200"] > COUNT / 10
    assert sum(n for name, n in seen.items() if name.startswith("changed 4")) > COUNT / 3
    assert GOOD["shape"] == [1, 6]
