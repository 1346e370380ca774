"""Prometheus as a native process: the one on PATH, with the rules and with addresses of this machine."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Dict

from ops.errors import OpsError
from ops.runtimes.process import ServerProcess
from ops.services.base import Command, Service, answers
from ops.settings import ROOT
from ops.several.processes import instances

FILES = ROOT / "monitoring" / "prometheus"
PAGE = "/consoles/triton-stack.html"
KEPT = "15d"  # as in Compose


class Prometheus(Service):
    """Scrapes everything, and draws the dashboard without Grafana."""

    name = "prometheus"
    profile = "monitoring"

    def missing(self) -> str:
        """Prometheus is no Python package, and the rest is of use without it."""
        if shutil.which("prometheus") is not None:
            return ""
        return "prometheus is not on PATH: apt-get install prometheus, or its release for Linux"

    def prepare(self) -> None:
        """Write its configuration; raises OpsError."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / "prometheus.yml").write_text(self._configuration(), "utf-8")
        except OSError as e:
            raise OpsError(f"{self._folder}: Prometheus' configuration cannot be written: {e}") from e

    def command(self) -> Command:
        """It listens on this machine only, since it has no passwords."""
        folder = self._folder
        argv = [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--storage.tsdb.retention.time={KEPT}",
            f"--web.listen-address=127.0.0.1:{self.settings.prometheus_port}",
            f"--web.console.templates={FILES / 'consoles'}",
            f"--web.user-assets={ROOT / 'monitoring' / 'grafana' / 'dashboards'}",
        ]
        # Configuration and rules are settings, too: with others it is started anew.
        texts = [self._configuration(), *(p.read_text("utf-8") for p in sorted(FILES.glob("rules/*.yml")))]
        digest = hashlib.sha256("".join(texts).encode()).hexdigest()
        return Command(argv, {"PROMETHEUS_CONFIGURATION": digest})

    def ports(self) -> Dict[str, int]:
        """Its pages and its API."""
        return {"PROMETHEUS_PORT": self.settings.prometheus_port}

    def ready(self) -> bool:
        """It has read what it recorded before."""
        return answers(self.settings.prometheus_port, "/-/ready")

    def shows(self) -> Dict[str, str]:
        """The dashboard; alerts are one click away."""
        return {"dashboard": f"http://127.0.0.1:{self.settings.prometheus_port}{PAGE}"}

    @property
    def _folder(self) -> Path:
        return self.settings.run_dir / "prometheus"

    def _configuration(self) -> str:
        """Compose's own, with addresses of this machine in place of the services' names."""
        s = self.settings
        text = (FILES / "prometheus.yml").read_text("utf-8")
        # A pattern to Prometheus, wherever the checkout lies; JSON's text is YAML's, too.
        rules = re.sub(r"([*?\[\]\\])", r"\\\1", str(FILES)) + "/rules/*.yml"
        if s.triton_count > 1:
            several = instances(s, ServerProcess(s.run_dir))
            places = [f"{one.settings.host}:{one.settings.metrics_port}" for one in several]
            text = text.replace('"triton:8002"', ", ".join(json.dumps(place) for place in places))
        for name, address in (
            ("rules/*.yml", json.dumps(rules)),
            ("triton:8002", f"{s.host}:{s.metrics_port}"),
            ("exporter:9105", f"127.0.0.1:{s.exporter_port}"),
            ("gateway:8404", f"127.0.0.1:{s.gateway_metrics_port}"),
            ("pictures:8010", f"127.0.0.1:{s.pictures_port}"),
            ("shadow:8011", f"127.0.0.1:{s.shadow_port}"),
        ):
            text = text.replace(name, address)
        return text
