"""Every command of ``python -m cluster``.

A command is a module with ``add(commands)``: it adds a parser, with ``--json``, and sets ``run``. That is a
function from the parsed arguments to the result (anything that JSON can hold), which raises ClusterError.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from cluster.agent import command as agent
from cluster.artifact import command as artifact
from cluster.rollout import command as rollout

# A line an area; the modules import what is heavy only when they run.
ADD: list[Callable[[argparse._SubParsersAction[argparse.ArgumentParser]], None]] = [
    agent.add,
    artifact.add,
    rollout.add,
]
