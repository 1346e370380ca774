"""All of a models volume as plain data: what is live, and what its manifests say.

``python -m models_volume snapshot DIR`` prints it as JSON, in the containers that have the volume mounted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

from models_volume import manifest
from models_volume.errors import VolumeError
from models_volume.layout import MANIFEST, Volume

# live: version or None; releases: versions, ascending; manifest: the live release's, or None;
# pending: whether a change of it is not settled; strays: lines.
Model = Dict[str, Any]


def snapshot(models_dir: Path) -> Dict[str, Model]:
    """Every model of the volume by name: those with releases, and every entry of the repository, since
    Triton takes each for a model."""
    volume = Volume(models_dir)
    return {
        name: {
            "live": volume.live(name),
            "releases": volume.versions(name),
            "manifest": _manifest(volume, name),
            "pending": volume.pending(name),
            "strays": volume.strays(name),
        }
        for name in models(volume)
    }


def models(volume: Volume) -> list[str]:
    """Every model that has releases, and every entry of the repository."""
    folder = volume.repository
    entries = [p.name for p in folder.iterdir() if p.is_dir() or p.is_symlink()] if folder.is_dir() else []
    return sorted({*volume.models(), *entries})


def _manifest(volume: Volume, model: str) -> Optional[Dict[str, Any]]:
    version = volume.live(model)
    if version is None:
        return None
    try:
        return manifest.load(volume.release(model, version) / MANIFEST)
    except VolumeError:
        return None
