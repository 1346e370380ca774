"""The shadow service as a native process: `python -m triton_stack_client shadow`."""

from __future__ import annotations

from typing import Dict

from ops.services.base import Command, Service, answers


class Shadow(Service):
    """Compares a canary's answers with others' on copies of requests; the gateway is its only client."""

    name = "shadow"
    profile = "gateway"
    parts = ("client",)

    def command(self) -> Command:
        """By the client's environment, for this machine only."""
        s = self.settings
        argv = [self.python("client"), "-m", "triton_stack_client", "shadow"]
        argv += ["--host", "127.0.0.1", "--port", str(s.shadow_port), "--models-dir", str(s.models_dir)]
        return Command(argv, {"PYTHONPATH": s.python_environment()["PYTHONPATH"]})

    def ports(self) -> Dict[str, int]:
        """Plain HTTP, behind the gateway."""
        return {"SHADOW_PORT": self.settings.shadow_port}

    def ready(self) -> bool:
        """It listens."""
        return answers(self.settings.shadow_port, "/healthz")
