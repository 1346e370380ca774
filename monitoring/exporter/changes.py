"""What became of the last changes of the releases: read from the models volume's audit log."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Dict, List, Optional

from models_volume.layout import FAILED, Volume

_TAIL = 1 << 20  # bytes of the log's end that are read: some thousands of changes

Event = Dict[str, Any]


@dataclass(frozen=True)
class Change:
    """A redeploy or rollback that is settled: when it was, in seconds since 1970, and whether it stayed."""

    time: float
    good: bool


def events(volume: Volume) -> List[Event]:
    """The audit log's lines, oldest first; what is no event (a line cut short) is left out.

    Raises:
        OSError: it cannot be read; a missing one is empty.
    """
    try:
        with volume.audit_log.open("rb") as f:
            f.seek(max(0, os.fstat(f.fileno()).st_size - _TAIL))
            lines = f.read().splitlines()
    except FileNotFoundError:
        return []
    return [event for event in map(_event, lines) if event is not None]


def live_since(volume: Volume, log: List[Event], model: str, version: int) -> float:
    """When the live release went live, in seconds since 1970."""
    for event in reversed(log):
        if event["model"] == model and event["event"] in ("activate", "revert"):
            if event.get("version" if event["event"] == "activate" else "to") != version:
                break  # it went live without a line, on a full disk
            return float(event["time"])
    # A rename sets the link's change time.
    return os.lstat(str(volume.link(model))).st_ctime


def last(volume: Volume, log: List[Event], model: str) -> Optional[Change]:
    """The last change that is settled; None before the first.

    A change goes live, and then it is confirmed or reverted. Without Docker's or the scripts' driver
    (``deploy``) nobody confirms it: it counts as good when nothing is pending. A revert on a full disk leaves
    no line, only the release's mark.
    """
    settled: Optional[Change] = None
    tried: Optional[Event] = None  # what went live and is not settled
    for event in log:
        if event["model"] != model:
            continue
        if event["event"] == "activate":
            tried = event
        elif event["event"] in ("confirm", "revert"):
            settled, tried = Change(float(event["time"]), event["event"] == "confirm"), None
    if tried is None:
        return settled
    version = tried.get("version")
    if isinstance(version, int) and (volume.release(model, version) / FAILED).exists():
        return Change(float(tried["time"]), good=False)
    live = volume.live(model) == version
    return Change(float(tried["time"]), good=True) if live and not volume.pending(model) else settled


def _event(line: bytes) -> Optional[Event]:
    """A line with its time in seconds since 1970; None for anything that has no time, event and model."""
    try:
        event = json.loads(line)
        return {**event, "time": seconds(event["time"]), "event": event["event"], "model": event["model"]}
    except (ValueError, KeyError, TypeError):
        return None


def seconds(text: str) -> float:
    """A time as the builder writes it (ISO 8601 with its zone) in seconds since 1970; raises ValueError."""
    return datetime.fromisoformat(text).timestamp()
