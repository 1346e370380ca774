"""What a check found, and its remedy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One check. ``level`` is "ok", "warn" (something is not used because of it) or "fail"."""

    name: str
    level: str
    detail: str
    remedy: str = ""
