"""The picture service as a process of the test's own, in front of a native stack."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from support.stack import PACKAGES, Stack, free_ports


class PictureService:
    """``python -m triton_stack_client pictures`` before ``stack``; a context manager."""

    def __init__(self, stack: Stack, folder: Path, *options: str, port: int = 0) -> None:
        [free] = free_ports(1)
        self.port = port or free
        self._log = folder / f"pictures-{self.port}.log"
        self.env = {**stack.env, "PYTHONPATH": PACKAGES}
        where = ("--port", str(self.port), "--url", f"127.0.0.1:{stack.grpc}")
        self.argv = [sys.executable, "-m", "triton_stack_client", "pictures", *where, *options]
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PictureService:
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(self.argv, env=self.env, stdout=log, stderr=log)
        end = time.monotonic() + 30
        while not self.answers():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            assert self.process.wait(30) == 0, self.log
        finally:
            self.process.kill()
        assert "Traceback" not in self.log

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    @property
    def memory(self) -> int:
        """The most bytes that it has held so far."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/healthz")[0] == 200
        except OSError:
            return False

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """One request over a connection of its own: status, body and headers (lower case)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def classify(self, picture: bytes, model: str = "colours", query: str = "") -> tuple[int, Any]:
        """The status and the JSON answer for one picture."""
        status, text, headers = self.ask("POST", f"/v1/models/{model}/classify{query}", picture)
        assert headers["content-type"].startswith("application/json")
        return status, json.loads(text)

    def metric(self, line: str) -> float:
        """The value of a sample, by its name and labels as written."""
        _, text, _ = self.ask("GET", "/metrics")
        [value] = [row.rpartition(" ")[2] for row in text.decode().splitlines() if row.startswith(line + " ")]
        return float(value)
