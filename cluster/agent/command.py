"""``python -m cluster agent``: the agent of this node, until SIGTERM."""

from __future__ import annotations

import argparse
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError

# A part of a tag, node-NAME: what the distribution specification lets a tag be, with room for the beginning.
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BEAT = "cluster/agent.beat"  # on the models volume


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Its parser."""
    agent = commands.add_parser(
        "agent", help="bring this node's servers to what the cluster wants, and report"
    )
    agent.add_argument("--healthy", action="store_true", help="only say whether the agent of this node lives")
    agent.set_defaults(run=_run, json=False)


def _run(args: argparse.Namespace) -> Any:
    # What they import is heavy, and a registry is reached by them.
    from ops.errors import OpsError

    from cluster.agent import run

    if args.healthy:
        if not run.healthy(Path(os.environ.get("MODELS_DIR") or "models") / _BEAT):
            raise ClusterError("the agent of this node has not looked around lately")
        return {"healthy": True}
    try:
        return _forever(os.environ)
    except OpsError as e:
        raise ClusterError(e.found, expected=e.expected, remedy=e.remedy, details=e.details) from e


def _forever(environ: Mapping[str, str]) -> dict[str, int]:
    from ops import settings

    from cluster.agent import run, servers
    from cluster.agent.loop import Agent
    from cluster.agent.node import Node
    from cluster.agent.runtime import NodeRuntime
    from cluster.artifact.place import Place
    from cluster.registry.references import repository
    from cluster.state.registry import RegistryStore

    given = settings.load(environ)
    node = name(environ)
    place = Place.of(environ)
    where = (
        environ.get("TRITON_SERVERS") or f"127.0.0.1:{given.http_port}:{given.grpc_port}:{given.metrics_port}"
    )
    servers.find(where, node)  # what is wrong with the setting is told now
    known = models(environ, given.models_dir)  # what is wrong is told now

    def repositories() -> dict[str, str]:
        """A model that has come to the volume since is looked after, too."""
        found = dict.fromkeys([*known, *models(environ, given.models_dir, needed=False)])
        return {model: repository(model, place.settings) for model in found}

    device = "cpu" if environ.get("ENGINE") == "onnxruntime" else "gpu"
    runtime = NodeRuntime(given, device, lambda: servers.find(where, node))
    agent = Agent(
        node,
        repositories,
        RegistryStore(place.registry),
        Node(given, runtime),
        given.models_dir,
        say=run.say,
        report_secs=seconds(environ, "REPORT_SECS", 30),
    )
    run.say("started", node=node, models=sorted(known), registry=place.settings.host, servers=where)
    beat = given.models_dir / _BEAT
    beat.parent.mkdir(parents=True, exist_ok=True)
    return {"code": run.forever(agent.step, seconds(environ, "AGENT_SECS", 5), beat)}


def name(environ: Mapping[str, str]) -> str:
    """What this node is called: NODE_NAME, else TRITON_ID, else the host's name; raises ClusterError."""
    found = environ.get("NODE_NAME") or environ.get("TRITON_ID") or socket.gethostname()
    if not _NODE.fullmatch(found):
        raise ClusterError(
            f"NODE_NAME: found {found!r}",
            expected="letters, digits and . _ -, at most 100, with a letter or digit first",
            remedy="set NODE_NAME in the environment or in .env",
        )
    return found


def models(environ: Mapping[str, str], models_dir: Path, *, needed: bool = True) -> list[str]:
    """AGENT_MODELS, or every model that has releases here; raises ClusterError where there is none but one is
    needed."""
    from models_volume.layout import Volume

    found = (environ.get("AGENT_MODELS") or "").replace(",", " ").split() or Volume(models_dir).models()
    if needed and not found:
        raise ClusterError(
            f"AGENT_MODELS is empty, and {models_dir} has no model yet",
            remedy="name the models that this node is to serve in AGENT_MODELS",
        )
    return found


def seconds(environ: Mapping[str, str], setting: str, default: float) -> float:
    """A setting in seconds; raises ClusterError for what is no time above 0 and up to an hour."""
    text = environ.get(setting) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0
    if not 0 < value <= 3600:
        raise ClusterError(f"{setting}: found {text}", expected="seconds, above 0 and up to 3600")
    return value
