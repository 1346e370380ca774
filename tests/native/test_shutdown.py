"""SIGTERM with requests in flight: every one is answered, the server exits with 0 and needs no SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.http
from support.models import write_lookup
from support.stack import ROOT, Stack

VENVS = Path(os.environ.get("VENVS_DIR") or ROOT / ".venvs")


def test_requests_in_flight_are_answered(tmp_path: Path) -> None:
    """Requests wait 3 s in the dynamic batcher's queue; the server is told to stop meanwhile."""
    stack = Stack(tmp_path / "models")
    spec = write_lookup(tmp_path / "spec")
    spec.write_text(spec.read_text().replace("max_queue_delay_us: 300000", "max_queue_delay_us: 3000000"))
    subprocess.run(
        [VENVS / "tests/bin/python3", "-m", "builder", "deploy", spec, "--engine", "onnxruntime"],
        cwd=ROOT, env=stack.env, check=True, capture_output=True,
    )  # fmt: skip
    env = {
        **stack.env,
        "MODEL_REPOSITORY": str(stack.models_dir / "repository"),
        "BACKENDS_DIR": str(tmp_path / "backends"),
        "BIND_ADDRESS": "127.0.0.1",
    }
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [VENVS / "triton/bin/python3", ROOT / "triton/cpu/server.py"], env=env, stdout=log, stderr=log
        )
    try:
        wait_ready(stack.http)
        answers: list[float] = []
        threads = [threading.Thread(target=ask, args=(stack, n, answers)) for n in range(6)]
        for t in threads:
            t.start()
        time.sleep(1)
        began = time.monotonic()
        server.send_signal(signal.SIGTERM)
        for t in threads:
            t.join(30)
        assert sorted(answers) == [0.0, 10.0, 20.0, 30.0, 40.0, 50.0]
        assert time.monotonic() - began > 1, "they were meant to be in flight when the signal came"
        assert server.wait(30) == 0
    finally:
        server.kill()
        server.wait()


def wait_ready(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/lookup/ready", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server is not ready")


def ask(stack: Stack, n: int, answers: list[float]) -> None:
    module, port = ((tritonclient.http, stack.http), (tritonclient.grpc, stack.grpc))[n % 2]
    with module.InferenceServerClient(f"127.0.0.1:{port}") as client:
        tensor = module.InferInput("index", [1, 1], "INT32")
        tensor.set_data_from_numpy(np.array([[n]], np.int32))
        answers.append(float(client.infer("lookup", [tensor]).as_numpy("value")[0, 0]))
