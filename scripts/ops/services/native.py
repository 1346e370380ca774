"""Start, find again and stop the native services of the profiles that are asked for."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, List, Sequence, Type

from ops import console
from ops.checks.ports import port_problem
from ops.errors import OpsError
from ops.runtimes.process import ServerProcess
from ops.services.agent import NodeAgent
from ops.services.base import Service
from ops.services.exporter import Exporter
from ops.services.gateway import Gateway
from ops.services.pictures import Pictures
from ops.services.prometheus import Prometheus
from ops.services.shadow import Shadow
from ops.settings import ROOT, Settings

# In the order in which they start; they stop in the opposite order.
SERVICES: Sequence[Type[Service]] = (Exporter, Pictures, Shadow, Gateway, Prometheus, NodeAgent)
PROFILES = tuple(dict.fromkeys(service.profile for service in SERVICES))


class Services:
    """The services beside one native server.

    Args:
        settings: the running server's, where one runs.
        python: the interpreter of an environment, by the environment's name.
    """

    def __init__(self, settings: Settings, python: Callable[[str], str]) -> None:
        self._settings = settings
        self._all = [service(settings, python) for service in SERVICES]

    def process(self, name: str) -> ServerProcess:
        """A service's process, running or not."""
        return ServerProcess(self._settings.run_dir, f"{name}.json", f"{name}.log")

    def parts(self, profiles: Sequence[str]) -> List[str]:
        """The environments that the profiles' services need."""
        return list(dict.fromkeys(part for s in self._of(profiles) for part in s.parts))

    def check(self, profiles: Sequence[str]) -> None:
        """Raise OpsError when a port that a service needs is somebody else's."""
        for service in self._of(profiles):
            if service.missing():
                continue
            if self.process(service.name).state() is not None:
                continue
            for name, port in service.ports().items():
                reason = port_problem("127.0.0.1", port)
                if reason:
                    raise OpsError(
                        f"port {port} ({name}) cannot be used: {reason}",
                        remedy=f"stop what holds it, or choose another: {name}={port + 100} ./scripts/up",
                    )

    def start(self, profiles: Sequence[str]) -> None:
        """Start what does not run yet, and what runs with other settings anew; raises OpsError."""
        for service in self._of(profiles):
            if service.missing():
                console.progress(f"starting without {service.name}: {service.missing()}")
                continue
            service.prepare()
            command = service.command()
            process = self.process(service.name)
            facts = {"command": command.argv, "environment": command.env}
            running = process.state()
            if running is not None and any(running.get(k) != v for k, v in facts.items()):
                console.progress(f"the settings of {service.name} have changed: starting it anew")
                self._stop(service)
                running = None
            if running is None:
                ports = ", ".join(map(str, service.ports().values()))
                console.progress(f"starting {service.name}{f' on {ports}' if ports else ''}")
                env = {**self._settings.environment(), "PYTHONPATH": str(ROOT), **command.env}
                shown = {**facts, "shows": service.shows(), "profile": service.profile}
                process.start(command.argv, env, shown)
            self._wait(service, process)

    def _wait(self, service: Service, process: ServerProcess) -> None:
        end = time.monotonic() + service.seconds
        while not service.ready():
            ended = process.state() is None
            if ended or time.monotonic() > end:
                raise OpsError(
                    f"{service.name} {'ended before it was ready' if ended else 'is not ready'}",
                    details="\n".join(process.log_tail()[-12:]),
                    remedy=f"the whole log: {process.log}",
                )
            time.sleep(0.1)

    def stop(self) -> List[str]:
        """Stop every service that runs, the last one started first; a line for each."""
        return [said for service in reversed(self._all) for said in self._stop(service)]

    def _stop(self, service: Service) -> List[str]:
        pid = self.process(service.name).stop(service.ending())
        return [] if pid is None else [f"{service.name} (process {pid}) has stopped"]

    def status(self) -> List[Dict[str, Any]]:
        """Each service that runs, or that ended by itself, for `status`."""
        rows = []
        for service in self._all:
            process = self.process(service.name)
            state = process.state()
            if state is None and not process.crashed():
                continue
            rows.append(
                {
                    "name": service.name,
                    "profile": service.profile,
                    "state": "ended by itself" if state is None else "running",
                    "pid": state and state["pid"],
                    "shows": (state or {}).get("shows", {}),
                    "log": str(process.log),
                }
            )
        return rows

    def _of(self, profiles: Sequence[str]) -> List[Service]:
        return [service for service in self._all if service.profile in profiles]
