"""``latency`` and ``bench``: the client's measurements, with the server's environment as the baseline."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import List, Tuple

from ops.errors import OpsError
from ops.runtimes import environments
from ops.settings import ROOT, Settings, load

PERF = "perf"  # the environment of perf_analyzer
_LATENCY = ["triton", "client"]
_BENCH = ["triton", "client", PERF]


def latency(argv: List[str]) -> int:
    """Run the client's ``bench latency``; its exit code."""
    if environments.usage(_LATENCY, argv, "./scripts/latency [--model NAME] [--requests N] [--json]"):
        return 0
    settings = load()
    environments.ensure(_LATENCY)
    return _client(settings, "latency", ["--local", _local(), *argv])


def bench(argv: List[str]) -> int:
    """Run the client's ``bench run`` with NVIDIA's perf_analyzer; its exit code."""
    if environments.usage(_BENCH, argv, "./scripts/bench [--model NAME] [--quick] [--compare OLD]"):
        return 0
    settings = load()
    environments.ensure(_BENCH)
    program, libraries = perf_analyzer()
    options = ["--local", _local(), "--perf-analyzer", str(program), "--libraries", str(libraries)]
    return _client(settings, "run", [*options, *argv])


def perf_analyzer() -> Tuple[Path, Path]:
    """NVIDIA's program and the folder with the libraries it wants; raises OpsError."""
    return _program(), _libraries()


def _program() -> Path:
    program = environments.FOLDER / PERF / "bin" / "perf_analyzer"
    if not os.access(program, os.X_OK):
        raise OpsError(
            f"{program} is not there: NVIDIA publishes perf_analyzer for x86_64 only",
            remedy="run bench from an x86_64 machine",
        )
    return program


def _libraries() -> Path:
    """A folder with libb64 and libcudart under the names that perf_analyzer asks for.

    Debian has the first and NVIDIA's CUDA the second; nvidia-pytriton's wheel carries both, under names
    of its own, which spares a machine either.
    """
    environment = environments.FOLDER / PERF
    folder = environment / "lib" / PERF
    folder.mkdir(exist_ok=True)
    for name, pattern in (("libb64.so.0d", "libb64-*.so.0d"), ("libcudart.so.12", "libcudart-*.so.12*")):
        found = next(environment.glob(f"lib/python3*/site-packages/nvidia_pytriton.libs/{pattern}"))
        link = folder / name
        if not link.exists():
            link.symlink_to(found)
    return folder


def _local() -> str:
    return shlex.join([str(environments.python("triton")), str(ROOT / "triton" / "cpu" / "baseline.py")])


def _client(settings: Settings, command: str, argv: List[str]) -> int:
    sys.stdout.flush()
    done = subprocess.run(
        [str(environments.python("client")), "-m", "triton_stack_client.bench", command, *argv],
        env=settings.python_environment(),
        check=False,
    )
    return done.returncode
