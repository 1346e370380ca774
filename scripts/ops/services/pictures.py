"""The picture service as a native process: `python -m triton_stack_client pictures`."""

from __future__ import annotations

from typing import Dict

from ops.services.base import Command, Service, answers
from ops.settings import value

# Settings that the service reads for itself.
KNOBS = ("PICTURES_MAX_MB", "PICTURES_MAX_MEGAPIXELS", "PICTURES_QUEUE")


class Pictures(Service):
    """Labels for pictures sent over plain HTTP; the gateway is its only client."""

    name = "pictures"
    profile = "gateway"
    parts = ("client",)

    def command(self) -> Command:
        """By the client's environment, for this machine only."""
        s = self.settings
        argv = [self.python("client"), "-m", "triton_stack_client", "pictures"]
        argv += ["--host", "127.0.0.1", "--port", str(s.pictures_port)]
        argv += ["--url", f"{s.host}:{s.grpc_port}", "--models-dir", str(s.models_dir)]
        knobs = {name: value(name) for name in KNOBS if value(name)}
        return Command(argv, {"PYTHONPATH": s.python_environment()["PYTHONPATH"], **knobs})

    def ports(self) -> Dict[str, int]:
        """Plain HTTP, behind the gateway."""
        return {"PICTURES_PORT": self.settings.pictures_port}

    def ready(self) -> bool:
        """It listens."""
        return answers(self.settings.pictures_port, "/healthz")
