"""Which servers are a model's canaries and what they get: cluster/traffic.json on the models volume.

    {"models": {"resnet50": {"canary_servers": ["node-a"], "share": 0.1, "shadow": null}}}

A node's agent writes it, atomically; the gateway of that node reads it. A canary is named by its node, by
Triton's own id, or as TRITON_SERVERS does (host:http port:grpc port). ``share`` is the part of the model's
requests that the canaries answer, null for an even one; ``shadow`` the part that is copied to a canary and
compared, null for none. A file that is missing says that there is no canary.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any, Dict, Optional, Tuple

from models_volume.errors import VolumeError
from models_volume.layout import Volume

_REMEDY = "next: the agent of this node writes it anew; without an agent delete it"


@dataclass(frozen=True)
class Canary:
    """A model's canaries; ``share`` and ``shadow`` are parts of one, None where they are not wanted."""

    servers: Tuple[str, ...]
    share: Optional[float] = None
    shadow: Optional[float] = None

    def has(self, server_id: str, place: str) -> bool:
        """Whether a server is one of them.

        Args:
            server_id: Triton's own name.
            place: ``host:http port:grpc port``.
        """
        return any(place == name or of_node(server_id, name) for name in self.servers)


def of_node(server_id: str, node: str) -> bool:
    """Whether a Triton of that id runs on that node: NODE itself, or NODE-gpuK where a node has several."""
    return server_id == node or re.fullmatch(re.escape(node) + r"-gpu[0-9]+", server_id) is not None


def read(volume: Volume) -> Dict[str, Canary]:
    """What the file says, by model; raises VolumeError for a file that cannot be used."""
    try:
        text = volume.traffic.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as e:
        raise VolumeError(f"{volume.traffic} cannot be read: {e}; {_REMEDY}") from e
    try:
        return {str(model): _canary(given) for model, given in json.loads(text)["models"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise VolumeError(f"{volume.traffic} is not what an agent writes: {e}; {_REMEDY}") from e


def write(volume: Volume, canaries: Dict[str, Canary]) -> None:
    """Replace the file at once; raises OSError."""
    models = {
        model: {"canary_servers": list(c.servers), "share": c.share, "shadow": c.shadow}
        for model, c in sorted(canaries.items())
    }
    volume.traffic.parent.mkdir(parents=True, exist_ok=True)
    fresh = volume.traffic.with_name(f".{volume.traffic.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        json.dump({"models": models}, file)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(volume.traffic)


def _canary(given: Dict[str, Any]) -> Canary:
    servers = given["canary_servers"]
    if not isinstance(servers, list) or not all(isinstance(name, str) and name for name in servers):
        raise ValueError("canary_servers must be a list of names")
    return Canary(tuple(servers), _part(given, "share"), _part(given, "shadow"))


def _part(given: Dict[str, Any], name: str) -> Optional[float]:
    value = given.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} is {value!r}; allowed is null, or a number from 0 to 1")
    return float(value)
