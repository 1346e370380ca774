"""``classify``: the client's, in its own environment, against this stack unless --url says otherwise."""

from __future__ import annotations

import subprocess
from typing import List

from ops.runtimes import environments
from ops.settings import load


def main(argv: List[str]) -> int:
    """Run the client's ``classify`` in the user's own folder; its exit code."""
    if environments.usage(["client"], argv, "./scripts/classify IMAGE... [--model NAME] [--top 5] [--json]"):
        return 0
    environments.ensure(["client"])
    return subprocess.run(
        [str(environments.python("client")), "-m", "triton_stack_client", "classify", *argv],
        env=load().python_environment(),
        check=False,
    ).returncode
