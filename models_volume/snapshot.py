"""The models volume as files: what is live, and what its manifests say. Read only.

Run as a program it prints the snapshot of a volume, in the containers that have one mounted; so this file
imports nothing of ours and runs on Python 3.8.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional

# live: version or None; releases: versions, ascending; manifest: the live release's, or None;
# pending: whether a change of it is not settled; strays: lines.
Model = Dict[str, Any]


def snapshot(models_dir: Path) -> Dict[str, Model]:
    """Every model of the volume by name."""
    serving = live(models_dir)
    return {
        name: {
            "live": serving.get(name),
            "releases": releases(models_dir, name),
            "manifest": manifest(models_dir, name, serving[name]) if name in serving else None,
            "pending": (models_dir / "releases" / name / ".pending").exists(),
            "strays": strays(models_dir, name),
        }
        for name in models(models_dir)
    }


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
    """Every model that has releases, and every entry of the repository: Triton takes each for a model."""
    folders = (models_dir / "releases", models_dir / "repository")
    return sorted(
        {p.name for f in folders if f.is_dir() for p in f.iterdir() if p.is_dir() or p.is_symlink()}
    )


def strays(models_dir: Path, model: str) -> List[str]:
    """What somebody else put where Triton looks for this model, a line each.

    Triton reads version directories by their leading digits: 3.tmp is version 3 to it, and twenty digits
    end the server.
    """
    entry = models_dir / "repository" / model
    if not entry.is_symlink():
        return [f"repository/{model} is not a link of ours: move it away"] if entry.exists() else []
    version = Path(os.readlink(str(entry))).parent.name
    folder = models_dir / "releases" / model / version / "model"
    if not folder.is_dir():
        return [f"repository/{model} leads nowhere: ./scripts/rollback or ./scripts/up"]
    return [
        f"{folder.relative_to(models_dir) / p.name} does not belong to release {version}: move it away"
        for p in sorted(folder.iterdir())
        if p.is_dir() and p.name != version
    ]


if __name__ == "__main__":
    print(json.dumps(snapshot(Path(sys.argv[1]))))
