"""triton/health.py: what a container's health check says."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.stack import ROOT, free_ports


@pytest.fixture
def server() -> Iterator[int]:
    """A server that is live and has no model."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v2/health/live" else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    made = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, args=(0.01,))
    thread.start()
    yield made.server_port
    made.shutdown()
    made.server_close()
    thread.join()


def says(folder: Path, port: int, **environ: str) -> tuple[int, str]:
    env = {
        **os.environ, "PYTHONPATH": str(ROOT), "MODEL_REPOSITORY": str(folder / "repository"),
        "HTTP_PORT": str(port), **environ,
    }  # fmt: skip
    argv = [sys.executable, str(ROOT / "triton" / "health.py")]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def test_a_server_with_nothing_to_serve_is_ill_unless_an_agent_will_bring_it(
    tmp_path: Path, server: int
) -> None:
    assert says(tmp_path, server) == (
        1, f"nothing is published in {tmp_path / 'repository'}: run the builder\n",
    )  # fmt: skip
    code, words = says(tmp_path, server, HEALTHY_EMPTY="1")
    assert (code, "nothing is published" in words) == (0, True)
    assert says(tmp_path, free_ports(1)[0], HEALTHY_EMPTY="1")[0] == 1, "it must answer"


def test_a_model_that_does_not_answer_is_ill_whoever_brings_it(tmp_path: Path, server: int) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "releases/m/1/model").mkdir(parents=True)
    (tmp_path / "repository/m").symlink_to("../releases/m/1/model")
    code, words = says(tmp_path, server, HEALTHY_EMPTY="1")
    assert (code, words) == (1, "m version 1: does not answer\n")
