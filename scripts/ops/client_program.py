"""The client's own commands, run in its environment against this stack."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import subprocess
import sys
from types import ModuleType
from typing import List

from ops.arguments import JSON_HELP, MODEL_HELP
from ops.runtimes import environments
from ops.settings import ROOT, Settings


def add_arguments(parser: argparse.ArgumentParser, command: str) -> None:
    """Give ``parser`` the client's options of ``command``; needs no environment."""
    getattr(_options(), command)(parser, model=MODEL_HELP, as_json=JSON_HELP)


def forwarded(argv: List[str]) -> List[str]:
    """``argv`` without what only the scripts understand."""
    ours = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    ours.add_argument("--runtime")
    return ours.parse_known_args(argv)[1]


def run(settings: Settings, module: str, argv: List[str]) -> int:
    """Run ``python -m module ARGV`` in the user's own folder; its exit code."""
    sys.stdout.flush()
    return subprocess.run(
        [str(environments.python("client")), "-m", module, *argv],
        env=settings.python_environment(),
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
