"""The client's own commands, run in its environment against this stack."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import shlex
import subprocess
import sys
from types import ModuleType
from typing import Dict, List, Optional

from ops import model_choice
from ops.arguments import JSON_HELP, MODEL_HELP
from ops.checks import modules
from ops.errors import OpsError
from ops.runtimes import environments
from ops.runtimes.base import Runtime
from ops.runtimes.detection import trtexec
from ops.runtimes.selection import current
from ops.settings import ROOT, Settings


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Give ``parser`` the client's options of ``command``; needs no environment."""
    getattr(_options(), command)(parser, model=MODEL_HELP, as_json=JSON_HELP)


def forwarded(argv: List[str]) -> List[str]:
    """``argv`` without what only the scripts understand."""
    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ours.add_argument("--runtime")
    return ours.parse_known_args(argv)[1]


def run(
    args: argparse.Namespace,
    settings: Settings,
    module: str,
    argv: List[str],
    runtime: Optional[Runtime] = None,
) -> int:
    """Run ``python -m module ARGV`` in the user's own folder; its exit code.

    ``runtime`` is what serves, where the caller has looked already.

    Raises:
        OpsError: there is no such model, or the stack runs in containers and its live releases cannot be had.
    """
    sys.stdout.flush()
    # A server or a volume that the user names is not this stack's.
    elsewhere = any(word.partition("=")[0] in ("--url", "--models-dir") for word in argv)
    with contextlib.ExitStack() as stack:
        changes: Dict[str, str] = {}
        python = str(environments.python("client"))
        if not elsewhere:
            runtime = runtime or current(settings, args.runtime)
            python = runtime.python("client")
            if args.model:
                model_choice.known(runtime.snapshot(), [args.model])
            changes = stack.enter_context(runtime.client_environment(args.model))
        return subprocess.run(
            [python, "-m", module, *argv],
            env={**settings.python_environment(), **changes},
            check=False,
        ).returncode


def prepare(runtime: Runtime, more: List[str]) -> None:
    """What the programs need that compare ``runtime``'s server with the engine itself, and ``more``
    environments; without set-up, the packages that are missing are named.

    Raises:
        OpsError: set-up failed, or packages are missing.
    """
    if runtime.setup:
        environments.ensure([*([] if runtime.device == "gpu" else ["triton"]), "client", *more])
        return
    wanted = ["numpy", "tritonclient.grpc", "tritonclient.http"]
    wanted += [] if runtime.device == "gpu" else ["onnxruntime"]
    missing = modules.missing(wanted)
    if missing:
        raise OpsError(
            f"the server was started with --no-setup, and {sys.executable} lacks {', '.join(missing)}",
            remedy="install the packages of client/requirements.txt for it, or serve with ./scripts/up "
            "without --no-setup",
        )


def local_baseline(runtime: Runtime) -> List[str]:
    """How the engine runs without Triton, as the client's options; raises OpsError without trtexec."""
    if runtime.device != "gpu":
        local = [runtime.python("triton"), str(ROOT / "triton" / "cpu" / "baseline.py")]
        return ["--local", shlex.join(local)]
    if runtime.name != "native":
        return []  # a `trtexec` on PATH that runs in a container
    tool = trtexec()
    if tool is None:
        raise OpsError(
            "there is no trtexec, with which the engine is measured without Triton",
            expected="trtexec on PATH, where TRTEXEC names it, or where NVIDIA's images have it",
            remedy="TRTEXEC=/path/trtexec ./scripts/bench",
        )
    return ["--trtexec", tool]


def _options() -> ModuleType:
    """The client's arguments.py by its path: importing its package would need the environment."""
    path = ROOT / "client" / "triton_stack_client" / "arguments.py"
    spec = importlib.util.spec_from_file_location("client_arguments", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
