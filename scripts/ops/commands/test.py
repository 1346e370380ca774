"""``test``: set up, run the linters and the type checker, then every test that this machine can run."""

from __future__ import annotations

import os
import subprocess
from typing import List

from ops import console
from ops.errors import OpsError
from ops.runtimes import environments
from ops.settings import ROOT

_PARTS = ["tests", "builder", "triton", "client"]


def run_with(prog: str, argv: List[str]) -> None:
    """Run it; all arguments go to pytest. The last line printed is pytest's summary."""
    if {"-h", "--help"} & set(argv):
        print(f"usage: {prog} [PYTEST ARGUMENT ...]\n\n{__doc__}")
        print("\nWith arguments, only pytest runs.")
        return
    environments.ensure(_PARTS)
    python = str(environments.python("tests"))
    if not argv:
        for name, command in (
            ("ruff", ["-m", "ruff", "check", "."]),
            ("ruff format", ["-m", "ruff", "format", "--check", "."]),
            ("mypy", ["-m", "mypy"]),
        ):
            console.progress(name)
            if subprocess.run([python, *command], cwd=ROOT, check=False).returncode:
                raise OpsError(f"{name} found something", remedy=f"{python} {' '.join(command)}")
    console.progress("pytest")
    # exec: pytest's exit code and its summary are ours.
    os.chdir(ROOT)
    os.execv(python, [python, "-m", "pytest", *argv])  # noqa: S606  (a list, no shell)
