"""Native servers: one, or TRITON_COUNT of them, each a process on ports of its own with a GPU of its own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Dict, List

from ops.errors import OpsError
from ops.runtimes.process import ServerProcess
from ops.settings import PORTS_APART, Settings, value
from ops.several import gpus
from ops.several.places import Place


@dataclass(frozen=True)
class Instance:
    """One server: its number from 0 on, its name (empty where it is alone), its settings and its process."""

    number: int
    name: str
    settings: Settings
    process: ServerProcess

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place.of(self.name, self.settings)

    @property
    def backends(self) -> str:
        """The folder of its backends in the run folder."""
        return f"backends-{self.number}" if self.number else "backends"

    def environment(self, device: str) -> Dict[str, str]:
        """What it is given besides the settings; nothing where it is alone. Raises OpsError."""
        if not self.name:
            return {}
        env = {"TRITON_ID": self.name}
        if device == "gpu":
            gpu = gpus.chosen(self.settings)[self.number]
            env.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", CUDA_VISIBLE_DEVICES=gpu)
        return env

    def row(self) -> Dict[str, Any]:
        """For `status`."""
        running = self.process.state()
        answers = running is not None and self.place.server.metadata() is not None
        return {
            "name": self.name,
            "state": "running" if answers else "stopped" if running is None else "not answering",
            "pid": running and running["pid"],
            "http": f"{self.settings.host}:{self.settings.http_port}",
            "grpc": f"{self.settings.host}:{self.settings.grpc_port}",
            "metrics": f"{self.settings.host}:{self.settings.metrics_port}",
            "log": str(self.process.log),
        }


def instances(settings: Settings, first: ServerProcess) -> List[Instance]:
    """All servers that ``settings`` ask for; ``first`` is the one on the ports of the settings."""
    count = settings.triton_count
    node = value("TRITON_ID") or "triton"
    made = [Instance(0, f"{node}-gpu0" if count > 1 else "", settings, first)]
    for number in range(1, count):
        ports = {k: v + PORTS_APART * number for k, v in settings.ports.items()}
        shifted = dataclasses.replace(settings.at(ports, None))
        process = ServerProcess(settings.run_dir, f"server-{number}.json", f"triton-{number}.log")
        made.append(Instance(number, f"{node}-gpu{number}", shifted, process))
    return made


def started(settings: Settings) -> List[ServerProcess]:
    """The processes beside the first one that run, whatever the settings say now."""
    found = []
    for state in sorted(settings.run_dir.glob("server-[0-9]*.json")):
        process = ServerProcess(settings.run_dir, state.name, f"triton-{state.stem.partition('-')[2]}.log")
        if process.state() is not None:
            found.append(process)
    return found


def need_the_gateway(settings: Settings, profiles: List[str]) -> None:
    """Raise OpsError for several servers without the gateway, which alone divides requests among them."""
    if settings.triton_count > 1 and "gateway" not in profiles:
        raise OpsError(
            f"TRITON_COUNT is {settings.triton_count}, and nothing divides requests among that many servers",
            remedy="./scripts/up --profile gateway, or TRITON_COUNT=1",
        )
