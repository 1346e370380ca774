"""The client's own commands, run in its environment against this stack."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import shlex
import subprocess
import sys
from types import ModuleType
from typing import Dict, List

from ops import model_choice
from ops.arguments import JSON_HELP, MODEL_HELP
from ops.runtimes import environments
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


def run(args: argparse.Namespace, settings: Settings, module: str, argv: List[str]) -> int:
    """Run ``python -m module ARGV`` in the user's own folder; its exit code.

    Raises:
        OpsError: there is no such model, or the stack runs in containers and its live releases cannot be had.
    """
    sys.stdout.flush()
    # A server or a volume that the user names is not this stack's.
    elsewhere = any(word.partition("=")[0] in ("--url", "--models-dir") for word in argv)
    with contextlib.ExitStack() as stack:
        changes: Dict[str, str] = {}
        if not elsewhere:
            runtime = current(settings, args.runtime)
            if args.model:
                model_choice.known(runtime.snapshot(), [args.model])
            changes = stack.enter_context(runtime.client_environment(args.model))
        return subprocess.run(
            [str(environments.python("client")), "-m", module, *argv],
            env={**settings.python_environment(), **changes},
            check=False,
        ).returncode


def local_baseline() -> str:
    """The command that runs the engine without Triton, for latency and bench."""
    return shlex.join([str(environments.python("triton")), str(ROOT / "triton" / "cpu" / "baseline.py")])


def _options() -> ModuleType:
    """The client's arguments.py by its path: importing its package would need the environment."""
    path = ROOT / "client" / "triton_stack_client" / "arguments.py"
    spec = importlib.util.spec_from_file_location("client_arguments", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
