"""The models volume as files: what is live, and what its manifests say. Read only."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Dict, List, Optional


def live(models_dir: Path) -> Dict[str, int]:
    """Each live model and its version."""
    repository = models_dir / "repository"
    found = {}
    for link in sorted(repository.iterdir()) if repository.is_dir() else []:
        if link.is_symlink():
            number = Path(os.readlink(str(link))).parent.name
            if number.isdigit():
                found[link.name] = int(number)
    return found


def releases(models_dir: Path, model: str) -> List[int]:
    """A model's releases, ascending."""
    folder = models_dir / "releases" / model
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []


def manifest(models_dir: Path, model: str, version: int) -> Optional[Dict[str, Any]]:
    """A release's manifest, None when it cannot be read."""
    try:
        text = (models_dir / "releases" / model / str(version) / "manifest.json").read_text("utf-8")
        data = json.loads(text)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def models(models_dir: Path) -> List[str]:
    """Every model that has releases or is live."""
    folder = models_dir / "releases"
    named = {p.name for p in folder.iterdir() if p.is_dir()} if folder.is_dir() else set()
    return sorted(named | set(live(models_dir)))
