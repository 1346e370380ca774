"""A real Prometheus for a test, which lives sixty times faster: a minute of the rules is a second here."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from ops.services import prometheus as service

from support.stack import ROOT, free_ports

Sample = dict[str, Any]


def scaled(text: str) -> str:
    """Rules, an expression or a configuration with each minute as a second; scraped twice a second."""
    return re.sub(r"\b(\d+)m\b", r"\1s", re.sub(r"\b15s\b", "500ms", text))


class Prometheus:
    """Our configuration, rules and console page, with these targets; a context manager.

    Args:
        targets: host:port by job.
    """

    def __init__(self, folder: Path, targets: dict[str, list[str]]) -> None:
        if shutil.which("prometheus") is None:
            pytest.skip("no Prometheus here: apt-get install prometheus")
        self._folder = folder
        [self.port] = free_ports(1)
        (folder / "rules").mkdir(parents=True)
        for file in (service.FILES / "rules").glob("*.yml"):
            (folder / "rules" / file.name).write_text(scaled(file.read_text()))
        text = scaled((service.FILES / "prometheus.yml").read_text())
        for job, places in targets.items():
            text, count = re.subn(
                rf"(job_name: {job}\n\s+static_configs: \[\{{targets: )\[[^]]*\]",
                rf"\1{json.dumps(places)}",
                text,
            )
            assert count == 1, job
        (folder / "prometheus.yml").write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Prometheus:
        argv = [
            "prometheus", f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}",
            f"--web.console.templates={service.FILES / 'consoles'}",
            f"--web.user-assets={ROOT / 'monitoring' / 'grafana' / 'dashboards'}",
        ]  # fmt: skip
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log)
        until(self._ready, 30, "Prometheus", lambda: (self._folder / "log").read_text()[-2000:])
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def get(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the API."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expr: str) -> list[Sample]:
        """An expression's values now; its minutes are taken as seconds."""
        return list(self.get("query", query=scaled(expr))["result"])

    def names(self) -> set[str]:
        """Every metric that it has seen."""
        return set(self.get("label/__name__/values"))

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {a["labels"]["alertname"] for a in self.get("alerts")["alerts"] if a["state"] == "firing"}

    def state(self) -> dict[str, list[str]]:
        """Every alert that fires or waits, and what its rule's expression says, for a message."""
        found: dict[str, list[str]] = {}
        for alert in self.get("alerts")["alerts"]:
            words = f"{alert['state']} {alert['value']} {alert['labels']} since {alert['activeAt']}"
            found.setdefault(alert["labels"]["alertname"], []).append(words)
        return found

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


class Replay:
    """A recorded page of metrics, served as if Triton were there; ``values`` changes some of it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.values: dict[str, float] = {}
        self._server: ThreadingHTTPServer | None = None
        [self.port] = free_ports(1)

    def start(self) -> None:
        replay = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = replay.page().encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def page(self) -> str:
        text = self._text
        for name, value in self.values.items():
            text, count = re.subn(rf"^({name}\{{[^}}]*\}}) \S+$", rf"\1 {value}", text, flags=re.MULTILINE)
            assert count == 1, name
        return text


def until(
    condition: Callable[[], object], seconds: float, what: str, found: Callable[[], object] = lambda: ""
) -> float:
    """Wait until ``condition`` holds; the seconds it took. Fails the test after ``seconds``, with what is
    ``found`` instead."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"waited {seconds} s for {what}; found: {found()}"
        time.sleep(0.1)
    return time.monotonic() - began


def missing(prometheus: Prometheus, queries: dict[str, str], but: Iterable[str] = ()) -> dict[str, str]:
    """The queries that return nothing now, but for those whose place begins with one of ``but``."""
    return {
        place: expr
        for place, expr in queries.items()
        if not place.startswith(tuple(but)) and not prometheus.query(expr)
    }
