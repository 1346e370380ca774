"""The stack as plain processes: no Docker."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ContextManager, Dict, List, Optional, Sequence, Tuple

from models_volume import snapshot
from models_volume.layout import Volume
from ops import console
from ops.checks import modules
from ops.checks.ports import port_problem
from ops.errors import OpsError
from ops.runtimes import driver, environments
from ops.runtimes.detection import trtexec
from ops.runtimes.process import ServerProcess
from ops.runtimes.server import Server, explained
from ops.services.native import Services
from ops.settings import ROOT, Settings
from ops.several import gpus, processes
from ops.several.places import Place
from ops.several.processes import Instance

# The package of each part that runs as `python -m`, and whose environment it runs in.
MODULES = {"builder": "builder", "client": "triton_stack_client", "cluster": "cluster"}
_ENVIRONMENTS = {"cluster": "builder"}
_LOAD_SECS = 180  # for a server to start, load and warm up its models


class Native:
    """Builds, serves and tests with processes of this machine.

    Args:
        device: "gpu" (trtexec and a tritonserver on PATH) or "cpu" (onnxruntime, Triton from PyPI).
        setup: make virtual environments; False uses the running interpreter and its packages.
        profiles: what to start beside the server.
    """

    name = "native"

    def __init__(self, settings: Settings, device: str, *, setup: bool, profiles: Sequence[str] = ()) -> None:
        self._settings = replace(settings, poll_secs=settings.native_poll_secs)
        self.device = device
        self._setup = setup
        self.process = ServerProcess(settings.run_dir)
        self.server = Server(settings.host, settings.http_port)
        self._profiles = profiles

    @property
    def services(self) -> Services:
        """The processes beside the server."""
        return Services(self._settings, self.python)

    @property
    def poll_secs(self) -> int:
        """Seconds between two looks of the server at the models volume, as it was started."""
        return int((self.process.state() or {}).get("POLL_SECS", self._settings.poll_secs))

    def follow(self) -> None:
        """Take the address of the server that runs, wherever the one who started it got it from."""
        running = self.process.state()
        if running is not None:
            count = int(running.get("TRITON_COUNT", 1))
            self._settings = replace(
                self._settings.at(running, running.get("BIND_ADDRESS")), triton_count=count
            )
            self.server = Server(self._settings.host, self._settings.http_port)

    @property
    def _instances(self) -> List[Instance]:
        """Every server that the settings ask for, the first one first."""
        return processes.instances(self._settings, self.process)

    def places(self) -> List[Place]:
        """Where every server is."""
        return [one.place for one in self._instances]

    def missing(self) -> List[str]:
        """The servers that do not answer, where there are several."""
        rows = [one.row() for one in self._instances if one.name]
        return [f"{row['name']} ({row['state']})" for row in rows if row["state"] != "running"]

    def parts(self) -> List[str]:
        """The environments this way of running needs."""
        own = environments.parts(self.device)
        return [*own, *(p for p in self.services.parts(self._profiles) if p not in own)]

    @property
    def setup(self) -> bool:
        """Whether it runs in environments that we make, and not in the given interpreter's."""
        return self._setup

    def python(self, part: str) -> str:
        """The interpreter of a component."""
        return str(environments.python(part)) if self._setup else sys.executable

    def prepare(self) -> None:
        """Make the environments, or name what the given one lacks.

        Raises:
            OpsError: set-up failed, or packages are missing.
        """
        if self._setup:
            environments.ensure(self.parts())
        else:
            missing = self.missing_modules()
            if missing:
                raise OpsError(
                    f"--no-setup: {sys.executable} lacks {', '.join(missing)}",
                    remedy="install the packages of builder/requirements.txt (without TensorFlow, for a spec "
                    "whose source is onnx) and client/requirements.txt, or leave --no-setup away",
                )
        if self.device == "cpu":
            self._check_cpu_server()

    def missing_modules(self) -> List[str]:
        """With --no-setup: the modules that this interpreter cannot import."""
        wanted = [
            "numpy",
            "onnx",
            "pydantic",
            "yaml",
            "google.protobuf",
            "tritonclient.grpc",
            "tritonclient.http",
        ]
        wanted += ["onnxruntime"] if self.device == "cpu" else []
        return modules.missing(wanted)

    def _check_cpu_server(self) -> None:
        done = subprocess.run(
            [self.python("triton"), str(ROOT / "triton" / "cpu" / "server.py"), "--check"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OpsError("the CPU server cannot run here", details=(done.stdout + done.stderr).strip())

    def check_ports(self) -> None:
        """Raise OpsError when a port is taken by somebody else than our running server."""
        on = [row["profile"] for row in self.services.status()]
        processes.need_the_gateway(self._settings, [*self._profiles, *on])
        self.services.check(self._profiles)
        running = self.process.state()
        if running is not None:
            s = self._settings
            wanted: Dict[str, Any] = {**s.ports, **s.server, **self._wanted_gpu(), "device": self.device}
            wanted["TRITON_COUNT"] = s.triton_count
            differs = {k: running[k] for k, v in wanted.items() if running.get(k, v) != v}
            if differs:
                found = ", ".join(f"{k} {v}" for k, v in differs.items())
                raise OpsError(
                    f"the server that `up` started is running with {found}",
                    remedy="./scripts/down first, then ./scripts/up with the new settings",
                )
        for one in self._instances:
            if one.process.state() is not None:
                continue
            for name, port in one.settings.ports.items():
                reason = port_problem(self._settings.host, port)
                if reason:
                    first = self._settings.ports[name]
                    whose = f" of {one.name}" if one.number else ""
                    raise OpsError(
                        f"port {port} ({name}{whose}) cannot be used: {reason}",
                        remedy=f"stop what holds it, or choose another: {name}={first + 100} ./scripts/up",
                    )

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers; raises OpsError with its own words."""
        for one in self._instances:  # one after the other: each clears away what earlier servers have left
            if one.process.state() is None:
                self._start(one)
            self._wait({}, one)

    def serve(self) -> None:
        """Wait until every live model answers; raises OpsError with the server's own words."""
        live = Volume(self._settings.models_dir).all_live()
        for one in self._instances:
            self._wait(live, one)
        console.progress("Triton is ready: " + ", ".join(f"{m} version {v}" for m, v in live.items()))

    def serve_beside(self) -> None:
        """Start what the profiles ask for, and wait until it is ready; raises OpsError."""
        self.services.start(self._profiles)

    def _wait(self, live: Dict[str, int], one: Instance) -> None:
        def alive() -> None:
            if one.process.state() is None:
                raise OpsError(f"{one.name or 'the server'} ended before it was ready")

        try:
            one.place.server.wait(live, _LOAD_SECS + self._settings.poll_secs, alive)
        except OpsError as e:
            raise explained(e, one.process.log_tail(), f"the whole log: {one.process.log}") from e

    def _start(self, one: Instance) -> None:
        argv, env = self.server_command(self._settings.run_dir / one.backends)
        own = one.environment(self.device)
        env = {**env, **one.settings.address, **own}
        if one.process.crashed():
            console.progress(f"the last server ended by itself; its log is kept as {one.process.log}.1")
        ports = ", ".join(map(str, one.settings.ports.values()))
        console.progress(f"starting {one.name or 'Triton'} on {ports}")
        s = one.settings
        facts = {
            **s.ports,
            "BIND_ADDRESS": s.bind_address,
            "POLL_SECS": s.poll_secs,
            **s.server,
            **self._gpu(),
            "device": self.device,
            "setup": self._setup,
            "TRITON_COUNT": s.triton_count,
            **own,
        }
        one.process.start(argv, env, facts)

    def server_command(self, backends: Path) -> Tuple[List[str], Dict[str, str]]:
        """What starts a server, and its environment; the CPU server lays its backends out in ``backends``."""
        env = {**self._settings.environment(), **self._gpu()}
        if self.device == "cpu":
            env["BACKENDS_DIR"] = str(backends)
            return [self.python("triton"), str(ROOT / "triton" / "cpu" / "server.py")], env
        return [str(ROOT / "triton" / "entrypoint")], env

    def _gpu(self) -> Dict[str, str]:
        """CUDA's variables for builder, trtexec and server alike: the running server's GPU, or the wanted."""
        running = self.process.state() or {}
        return {k: running.get(k, v) for k, v in self._wanted_gpu().items()}

    def _wanted_gpu(self) -> Dict[str, str]:
        if self.device != "gpu":
            return {}
        if self._settings.triton_count > 1:
            return {
                "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
                "CUDA_VISIBLE_DEVICES": gpus.chosen(self._settings)[0],
            }
        scheduled = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        gpu = self._settings.gpu_id if os.environ.get("GPU_ID") or not scheduled else scheduled
        # CUDA numbers the fastest GPU first unless it is told to number them as nvidia-smi does.
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": gpu}

    def smoke(self) -> int:
        """Run the smoke test; its exit code."""
        return self.client(["smoke"])

    def client(self, args: List[str]) -> int:
        """Run ``python -m triton_stack_client ARGS`` against the server; its exit code."""
        return self._run("client", args).returncode

    def ask(self, part: str, args: List[str]) -> Tuple[int, str]:
        """Run ``python -m PART ARGS``; its exit code and standard output. Its progress is shown."""
        done = self._run(part, args, stdout=subprocess.PIPE)
        return done.returncode, done.stdout

    def _run(
        self, part: str, args: List[str], *, stdout: Optional[int] = None
    ) -> subprocess.CompletedProcess[str]:
        env = {**self._settings.python_environment(), **self._gpu()}
        tool = trtexec() if self.device == "gpu" else None
        if tool:
            env["TRTEXEC"] = tool  # a relative one is relative to where the operator is, not to ROOT
        argv = [self.python(_ENVIRONMENTS.get(part, part)), "-m", MODULES[part], *args]
        if part == "client":
            return subprocess.run(argv, cwd=ROOT, env=env, stdout=stdout, text=True, check=False)
        env.update(driver.LEASH)
        with driver.leash() as stdin:
            return subprocess.run(argv, cwd=ROOT, env=env, stdin=stdin, stdout=stdout, text=True, check=False)

    def stop(self) -> str:
        """Stop the server that `up` started; says what was done."""
        said = self.services.stop()  # first, so that what they have in hand is still answered
        for process in [*reversed(processes.started(self._settings)), self.process]:
            pid = process.stop(self._settings.exit_timeout_secs + 15)
            said += [] if pid is None else [f"Triton (process {pid}) has stopped"]
        return "; ".join(said) or "nothing was running"

    def status(self) -> Dict[str, Any]:
        """Server and process, for `status`."""
        running = self.process.state()
        metadata = self.server.metadata() if running else None
        several = self._instances
        return {
            "runtime": self.name,
            "device": running["device"] if running else self.device,
            "server": {
                "state": "stopped" if running is None else "running" if metadata else "not answering",
                "pid": running["pid"] if running else None,
                "version": metadata.get("version") if metadata else None,
                "http": f"{self._settings.host}:{self._settings.http_port}",
                "grpc": f"{self._settings.host}:{self._settings.grpc_port}",
                "metrics": f"{self._settings.host}:{self._settings.metrics_port}",
                "log": str(self.process.log),
            },
            "services": self.services.status(),
            **({"servers": [one.row() for one in several]} if len(several) > 1 else {}),
        }

    def log_tail(self) -> List[str]:
        """The last lines of the server's log."""
        return self.process.log_tail()

    def client_environment(self, model: Optional[str]) -> ContextManager[Dict[str, str]]:
        """The server's address; the models volume is a folder of this machine."""
        del model
        return contextlib.nullcontext({**self._settings.address, **self._gpu()})

    def snapshot(self) -> Dict[str, snapshot.Model]:
        """Every model on the models volume."""
        return snapshot.snapshot(self._settings.models_dir)


def spec_paths(models: List[str]) -> List[str]:
    """Model names as they are, files as absolute paths: the builder runs in another folder."""
    return [str(Path(m).resolve()) if Path(m).is_file() else m for m in models]
