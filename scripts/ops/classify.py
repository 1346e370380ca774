"""``classify``: the client's, in its own environment, against this stack unless --url says otherwise."""

from __future__ import annotations

import os
import subprocess
from typing import List

from ops import environments
from ops.settings import ROOT, load


def main(argv: List[str]) -> int:
    """Run ``python -m client classify`` in the user's own folder; its exit code."""
    if environments.usage(["client"], argv, "./scripts/classify IMAGE... [--model NAME] [--top 5] [--json]"):
        return 0
    environments.ensure(["client"])
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [str(environments.python("client")), "-m", "client", "classify", *argv],
        env={**load().environment(), "PYTHONPATH": path},
        check=False,
    ).returncode
