"""The node's agent as a native process: `python -m cluster agent`."""

from __future__ import annotations

import os
from typing import Dict

from ops import registry_access
from ops.runtimes.process import ServerProcess
from ops.services.base import Command, Service
from ops.settings import REGISTRY, ROOT, value
from ops.several.processes import instances

_KNOBS = ("NODE_NAME", "AGENT_MODELS", "AGENT_SECS", "REPORT_SECS", "LOAD_SECS")


class NodeAgent(Service):
    """Brings this machine's servers to what the cluster wants."""

    name = "agent"
    profile = "agent"
    parts = ("builder", "client")

    def command(self) -> Command:
        """In the builder's environment, with the settings of the servers that run."""
        s = self.settings
        state = ServerProcess(s.run_dir).state() or {}
        env = {name: value(name) for name in (*REGISTRY, *_KNOBS) if value(name)}
        for name in ("REGISTRY_CA", "RELEASE_PUBLIC_KEY"):
            if env.get(name):
                env[name] = str((ROOT / env[name]).resolve())
        env.pop("RELEASE_SIGNING_KEY", None)  # it signs nothing
        places = [one.place for one in instances(s, ServerProcess(s.run_dir))] if s.triton_count > 1 else []
        own = f"{s.host}:{s.http_port}:{s.grpc_port}:{s.metrics_port}"
        env.update(
            TRITON_SERVERS=" ".join(f"{p.host}:{p.http}:{p.grpc}:{p.metrics}" for p in places) or own,
            ENGINE="tensorrt" if state.get("device") == "gpu" else "onnxruntime",
            PYTHONPATH=os.pathsep.join(str(ROOT / part) for part in ("", "client", "scripts")),
        )
        return Command([self.python("builder"), "-m", "cluster", "agent"], env)

    def ending(self) -> float:
        """A proof that is under way goes back first, and the way back is seen and proven, too."""
        return 60.0 + 2 * (self.settings.poll_secs + self.settings.load_secs)

    def ports(self) -> Dict[str, int]:
        """None: nobody calls it."""
        return {}

    def ready(self) -> bool:
        """It has had its first look."""
        process = ServerProcess(self.settings.run_dir, "agent.json", "agent.log").state()
        try:
            words = (self.settings.models_dir / "cluster" / "agent.beat").read_text("ascii").split()
        except (OSError, ValueError):
            return False
        return process is not None and words[1:] == [str(process["pid"])]

    def prepare(self) -> None:
        """Raise OpsError without a registry."""
        registry_access.needed()
