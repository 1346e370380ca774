"""``bench``: measure throughput and latency at many loads, and write a report with pictures."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Tuple

from ops import client_program
from ops.errors import OpsError
from ops.runtimes import environments
from ops.settings import load

PERF = "perf"  # the environment of perf_analyzer


def arguments(parser: argparse.ArgumentParser) -> None:
    """The client's."""
    client_program.add_arguments(parser, "bench")


def run(args: argparse.Namespace) -> int:
    """The client's exit code: 0 when it was measured."""
    settings = load()
    environments.ensure(["triton", "client", PERF])
    program, libraries = perf_analyzer()
    argv = ["run", "--local", client_program.local_baseline()]
    argv += ["--perf-analyzer", str(program), "--libraries", str(libraries)]
    # With Docker too, although the client's models volume is then a copy that goes away.
    argv += ["--reports", str(settings.models_dir / "bench")]
    argv += client_program.forwarded(args.argv)
    return client_program.run(args, settings, "triton_stack_client.bench", argv)


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
