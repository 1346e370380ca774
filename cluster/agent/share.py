"""What the gateway of this node gives to canaries: cluster/traffic.json, from the rollout documents."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from models_volume import traffic
from models_volume.errors import VolumeError
from models_volume.layout import Volume


def canaries(documents: Mapping[str, Mapping[str, Any]]) -> dict[str, traffic.Canary]:
    """By model: who has the new release, while a rollout that asks for a share or a shadow has not brought
    it to everybody."""
    found = {}
    for model, document in documents.items():
        wish, allowed = document.get("traffic") or {}, list(document.get("allowed") or [])
        share, shadow = (_part(wish.get(name)) for name in ("share", "shadow"))
        under_way = document.get("state") in ("running", "paused")
        everybody = set(allowed) >= set(document.get("order") or [])
        if under_way and allowed and not everybody and (share, shadow) != (None, None):
            found[model] = traffic.Canary(tuple(map(str, allowed)), share, shadow)
    return found


def write(models_dir: Path, documents: Mapping[str, Mapping[str, Any]]) -> None:
    """Replace the file where it says something else; raises OSError."""
    volume, wanted = Volume(models_dir), canaries(documents)
    try:
        same = traffic.read(volume) == wanted
    except VolumeError:  # damaged
        same = False
    if not same:
        traffic.write(volume, wanted)


def _part(value: Any) -> float | None:
    """A part of one; None for what is none."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and 0 <= value <= 1 else None
