"""The server asked over HTTP."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest
from ops.runtimes.server import Server
from support.stack import free_ports


class Answers(http.server.BaseHTTPRequestHandler):
    """Triton as far as its own words go."""

    def do_GET(self) -> None:
        body = json.dumps({"name": "triton", "version": "2.51.0"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_our_own_server_is_never_asked_through_a_proxy(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (closed,) = free_ports(1)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server = Server("127.0.0.1", port)
    metadata = server.metadata()
    assert metadata is not None
    assert metadata["version"] == "2.51.0"
    assert server.ready("scale", 1)
    server.wait({"scale": 1}, 1, lambda: None)


def test_nobody_there_is_no_answer_and_no_error() -> None:
    (closed,) = free_ports(1)
    assert Server("127.0.0.1", closed).metadata() is None
