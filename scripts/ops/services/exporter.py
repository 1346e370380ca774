"""The exporter as a native process: `python -m monitoring.exporter`."""

from __future__ import annotations

import sys
from typing import Dict

from ops.services.base import Command, Service, answers


class Exporter(Service):
    """Metrics of the gateway's access log and of the models volume."""

    name = "exporter"
    profile = "monitoring"

    def command(self) -> Command:
        """By this interpreter: it needs nothing but the standard library."""
        s = self.settings
        argv = [sys.executable, "-m", "monitoring.exporter", "--models-dir", str(s.models_dir)]
        argv += ["--port", str(s.exporter_port), "--log-port", str(s.access_log_port)]
        argv += ["--triton", f"{s.host}:{s.http_port}", "--gateway", f"127.0.0.1:{s.gateway_port}"]
        return Command(argv, {})

    def ports(self) -> Dict[str, int]:
        """Its metrics; the access log comes by UDP."""
        return {"EXPORTER_PORT": self.settings.exporter_port}

    def ready(self) -> bool:
        """It has had its first look at the models volume."""
        return answers(self.settings.exporter_port, "/metrics")
