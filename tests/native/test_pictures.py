"""The picture service before a real Triton: right labels, one batch for many, and nothing that stops it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import hostile_pictures
from support.hostile_pictures import encoded
from support.picture_service import PictureService
from support.pictures import BLUE, GREEN, RED, plain, write_colours, write_strange
from support.stack import Stack

PNG = encoded(plain(50, 40, GREEN), "PNG")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("served")
    stack = Stack(folder / "models")
    stack.up(
        write_colours(folder / "colours"),
        write_colours(folder / "prepared", name="prepared", client_preprocessing="caffe"),
    )
    yield stack
    stack.kill()


@pytest.fixture(scope="module")
def service(served: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PictureService]:
    with PictureService(served, tmp_path_factory.mktemp("service")) as service:
        yield service


def test_a_picture_s_labels_best_first(service: PictureService) -> None:
    status, answer = service.classify(PNG, query="?top=2")
    assert status == 200
    assert (answer["model"], answer["version"]) == ("colours", 1)
    assert [(p["label"], p["class"]) for p in answer["predictions"]] == [("green", 1), ("blue", 2)]
    assert answer["predictions"][0]["score"] == pytest.approx(GREEN[1])
    assert "warning" not in answer
    assert len(service.classify(PNG)[1]["predictions"]) == 3


def test_every_kind_of_picture(service: PictureService, tmp_path: Path) -> None:
    for name, shows in write_strange(tmp_path).items():
        status, answer = service.classify((tmp_path / name).read_bytes())
        if shows in ("red", "green", "blue"):
            assert answer["predictions"][0]["label"] == shows, (name, answer)
        else:
            assert status in (400, 413, 415), name
            assert "allowed: " in answer["error"], name


def test_pixels_are_prepared_as_the_release_says(service: PictureService) -> None:
    _, answer = service.classify(encoded(plain(50, 40, RED), "PNG"), "prepared")
    scores = {p["class"]: p["score"] for p in answer["predictions"]}
    wanted = [RED[2] - 103.939, RED[1] - 116.779, RED[0] - 123.68]
    assert [scores[n] for n in range(3)] == pytest.approx(wanted, abs=0.1)


def test_triton_makes_batches_of_many_clients_pictures(served: Stack, service: PictureService) -> None:
    def statistics() -> dict[str, Any]:
        url = f"http://127.0.0.1:{served.http}/v2/models/colours/stats"
        with urllib.request.urlopen(url) as answer:
            stats: dict[str, Any] = json.load(answer)["model_stats"][0]
            return stats

    before = statistics()
    files = {
        name: encoded(plain(64, 64, c), "PNG") for name, c in zip("rgb", (RED, GREEN, BLUE), strict=True)
    }
    names = [list(files)[n * n % 3] for n in range(400)]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda n: service.classify(files[n], query="?top=1"), names))
    assert [a[1]["predictions"][0]["label"][0] for a in answers] == names
    after = statistics()
    pictures = after["inference_count"] - before["inference_count"]
    assert pictures == 400
    assert after["execution_count"] - before["execution_count"] < pictures


def test_hostile_pictures_are_refused_in_bounded_memory(service: PictureService) -> None:
    before = service.memory
    for name, (content, statuses) in hostile_pictures.corpus().items():
        began = time.monotonic()
        status, answer = service.classify(content)
        assert status in statuses, (name, status, answer)
        assert ("error" in answer) == (status != 200), name
        assert time.monotonic() - began < 3, name
        assert service.classify(PNG)[1]["predictions"][0]["label"] == "green", f"after {name}"
    assert service.memory - before < 400 << 20


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        ("colours/classify?top=0", {}, 400, "top=N"),
        ("colours/classify?top=x", {}, 400, "top=N"),
        ("colours/classify?top=1&top=2", {}, 400, "top=N"),
        ("colours/classify?bottom=1", {}, 400, "bottom"),
        ("colours/classify?top=" + "9" * 5000, {}, 400, "top=N"),
        ("nobody/classify", {}, 404, 'no model "nobody"'),
        ("colours/infer", {}, 404, "/classify"),
        ("..%2f/classify", {}, 404, "/classify"),
        ("colours/classify", {"Content-Encoding": "gzip"}, 415, "compressed"),
        ("colours/classify", {"Content-Type": "multipart/form-data; boundary=x"}, 415, "--data-binary"),
    ],
)
def test_what_is_refused_says_why(
    service: PictureService, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    found, text, _ = service.ask("POST", f"/v1/models/{path}", PNG, headers)
    assert (found, words in json.loads(text)["error"]) == (status, True), text


def test_another_method_and_a_body_too_long_are_refused(service: PictureService) -> None:
    status, text, _ = service.ask("GET", "/v1/models/colours/classify")
    assert (status, "POST" in json.loads(text)["error"]) == (405, True)
    bodies: list[Any] = [bytes(11 << 20), iter([bytes(1 << 20)] * 11)]  # the second one is sent in chunks
    for body in bodies:
        status, text, _ = service.ask("POST", "/v1/models/colours/classify", body)
        assert (status, "allowed: 10000000 bytes" in json.loads(text)["error"]) == (413, True)


def head(length: int) -> bytes:
    return (
        f"POST /v1/models/colours/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
    )


def test_a_full_queue_and_a_slow_body_are_refused_at_once(served: Stack, tmp_path: Path) -> None:
    with PictureService(served, tmp_path, "--queue", "2", "--body-timeout", "2") as service:
        slow = [socket.create_connection(("127.0.0.1", service.port), 10) for _ in range(2)]
        for client in slow:
            client.sendall(head(len(PNG)) + PNG[:10])
        while service.metric("triton_stack_pictures_in_flight") < 2:
            time.sleep(0.01)
        began = time.monotonic()
        status, text, headers = service.ask("POST", "/v1/models/colours/classify", PNG)
        assert (status, headers["retry-after"]) == (503, "1"), text
        assert time.monotonic() - began < 1
        for client in slow:
            assert client.recv(4096).startswith(b"HTTP/1.1 408 ")
            client.close()
        assert service.classify(PNG)[0] == 200
        assert service.metric("triton_stack_pictures_in_flight") == 0


def test_told_to_stop_it_answers_what_it_has(served: Stack, tmp_path: Path) -> None:
    with PictureService(served, tmp_path) as service:
        assert service.process is not None
        with socket.create_connection(("127.0.0.1", service.port), 10) as client:
            client.sendall(head(len(PNG)) + PNG[:10])
            while service.metric("triton_stack_pictures_in_flight") < 1:
                time.sleep(0.01)
            service.process.send_signal(signal.SIGTERM)
            while service.answers():
                time.sleep(0.01)
            client.sendall(PNG[10:])
            assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
        assert service.process.wait(10) == 0


def test_metrics_are_counted(service: PictureService) -> None:
    line = 'triton_stack_pictures_requests_total{model="colours",status="200"}'
    before = [service.metric(name) for name in (line, "triton_stack_pictures_infer_seconds_count")]
    service.classify(PNG)
    after = [service.metric(name) for name in (line, "triton_stack_pictures_infer_seconds_count")]
    assert [b + 1 for b in before] == after
    bucket = 'triton_stack_pictures_decode_seconds_bucket{le="+Inf"}'
    assert service.metric(bucket) == service.metric("triton_stack_pictures_decode_seconds_count")
    service.classify(PNG, "unknown-name")
    assert b"unknown-name" not in service.ask("GET", "/metrics")[1], (
        "names that clients make up are no labels"
    )


def test_a_redeploy_fails_nothing_and_labels_are_those_of_the_version(stack: Stack, tmp_path: Path) -> None:
    """The next release calls its classes otherwise and wants pictures of another size."""
    stack.up(write_colours(tmp_path / "spec"))
    seen: list[tuple[int, Any]] = []
    done = threading.Event()

    def ask(service: PictureService) -> None:
        while not done.is_set():
            seen.append(service.classify(PNG, query="?top=1"))

    with PictureService(stack, tmp_path) as service:
        threads = [threading.Thread(target=ask, args=(service,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        spec = write_colours(tmp_path / "spec", side=48)
        (tmp_path / "spec" / "colours.txt").write_text("rot\ngruen\nblau\n")
        redeployed = stack.run("redeploy", "--model", spec)
        first = len(seen)
        rolled_back = stack.run("rollback", "--model", "colours")
        time.sleep(1)
        done.set()
        for thread in threads:
            thread.join()
    assert redeployed.returncode == 0, redeployed.stdout + redeployed.stderr
    assert rolled_back.returncode == 0, rolled_back.stdout + rolled_back.stderr
    assert {status for status, _ in seen} == {200}, [a for s, a in seen if s != 200][:5]
    named = {(a["version"], a["predictions"][0]["label"]) for _, a in seen}
    assert named == {(1, "green"), (2, "gruen")}
    assert seen[first - 1][1]["version"] == 2
    assert seen[-1][1]["version"] == 1


def test_without_a_server_it_says_so_and_works_again_with_one(stack: Stack, tmp_path: Path) -> None:
    with PictureService(stack, tmp_path, "--timeout", "1") as service:
        status, answer = service.classify(PNG)
        assert (status, answer["error"]) == (503, "the server does not answer; next: try again")
        stack.up(write_colours(tmp_path / "spec"))
        assert service.classify(PNG)[0] == 200


def test_malformed_http_is_refused_and_not_logged(service: PictureService) -> None:
    line = b"POST /v1/models/colours/classify HTTP/1.1\r\nHost: x\r\n"
    before = len(service.log)
    for request in (
        line + b"Transfer-Encoding: chunked\r\n\r\n" + bytes(1 << 20),
        line + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        line + b"X: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\x16\x03\x01" + bytes(100) + b"\r\n\r\n",
    ):
        # It may close before it has everything.
        with socket.create_connection(("127.0.0.1", service.port), 10) as client, suppress(OSError):
            client.sendall(request)
            assert b" 200 " not in client.recv(4096)
        assert service.classify(PNG)[0] == 200
    assert len(service.log) - before < 1000


def test_a_port_that_is_taken_is_said_in_words(
    served: Stack, service: PictureService, tmp_path: Path
) -> None:
    second = PictureService(served, tmp_path, port=service.port)
    done = subprocess.run(second.argv, env=second.env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: 127.0.0.1:{service.port}: ")
    assert "Traceback" not in done.stderr
