"""``bench``: measure throughput and latency at many loads, and write a report with pictures."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Tuple

from ops import client_program
from ops.errors import OpsError
from ops.runtimes import environments
from ops.runtimes.selection import current
from ops.settings import load, value

PERF = "perf"  # the environment of perf_analyzer


def arguments(parser: argparse.ArgumentParser) -> None:
    """The client's."""
    client_program.add_arguments(parser, "bench")


def run(args: argparse.Namespace) -> int:
    """The client's exit code: 0 when it was measured."""
    settings = load()
    runtime = current(settings, args.runtime)
    client_program.prepare(runtime, [PERF])
    program, libraries = perf_analyzer(setup=runtime.setup)
    argv = ["run", *client_program.local_baseline(runtime)]
    argv += ["--perf-analyzer", program, "--libraries", libraries]
    # With Docker too, although the client's models volume is then a copy that goes away.
    argv += ["--reports", str(settings.models_dir / "bench")]
    argv += client_program.forwarded(args.argv)
    return client_program.run(args, settings, "triton_stack_client.bench", argv, runtime)


def perf_analyzer(*, setup: bool) -> Tuple[str, str]:
    """NVIDIA's program, and the folder of the libraries that it wants; empty where the system has them.

    Args:
        setup: whether an environment of ours holds it. PERF_ANALYZER and PERF_LIBRARIES come first.

    Raises:
        OpsError: it is not there.
    """
    wanted = value("PERF_ANALYZER")
    if setup and not wanted:
        return str(_program()), str(_libraries())
    beside = Path(sys.executable).parent / "perf_analyzer"  # where pip puts tritonclient's
    found = shutil.which(wanted or "perf_analyzer")
    if found is None and not wanted and os.access(beside, os.X_OK):
        found = str(beside)
    if found is None:
        where = f"PERF_ANALYZER names {wanted}" if wanted else f"not on PATH, and not {beside}"
        raise OpsError(
            f"there is no perf_analyzer that can be run: {where}",
            expected="NVIDIA's perf_analyzer 2.47, which comes with tritonclient==2.47.0, and the libraries "
            "that it wants (libb64.so.0d, libcudart.so.12) installed or in the folder PERF_LIBRARIES",
            remedy="name it: PERF_ANALYZER=/path/perf_analyzer PERF_LIBRARIES=/path ./scripts/bench; or "
            "serve with ./scripts/up without --no-setup",
        )
    libraries = value("PERF_LIBRARIES")
    return str(Path(found).absolute()), str(Path(libraries).absolute()) if libraries else ""


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
