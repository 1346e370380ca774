"""Take over a release that was built elsewhere: through the same gates as one that is built here.

Its hashes are checked, its configuration is written anew from its spec, and its engine runs the golden
samples here. An engine that is for another machine is left aside, and one is built of the ONNX file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Mapping, Optional

from builder import engine as engines
from builder import hashing, progress
from builder.errors import BuilderError, ReleaseError
from builder.release import build, given
from builder.release.given import Given
from builder.release.lifecycle import ModelReleases, unfit
from builder.release.store import Store
from builder.spec import stored
from models_volume import layout
from models_volume import manifest as manifests
from models_volume.errors import VolumeError

# A release's own files: nothing that leads out of its folder.
NAME = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]{0,100}/){0,3}[A-Za-z0-9_-][A-Za-z0-9_.-]{0,100}")


def take(
    folder: Path, store: Store, engine_name: str, *, origin: Optional[Mapping[str, Any]] = None
) -> Dict[str, Any]:
    """Publish the release in ``folder``; where there is one like it, do nothing. What is live stays live.

    Args:
        folder: its manifest.json, and the files that it names; ONNX file, golden samples and labels are
            enough where its engine is for another machine.
        engine_name: "tensorrt" or "onnxruntime": what serves here.
        origin: where it came from, for the manifest.

    Returns:
        model, version, action ("pulled", "built" or "unchanged"), live (a number or None), manifest.

    Raises:
        BuilderError: it is damaged, of another kind, or does not pass a gate here.
    """
    data = load(folder)
    model = str(data["model"])
    engine = engines.create(engine_name, timing_caches=store.cache)
    identity = engine.identity()
    why = unfit(data["engine"], identity)
    part = Given(folder, data, not why, dict(origin or {}))
    _whole(part)
    outputs = data["contract"]["outputs"]
    labels = {o["name"]: folder / "model" / o["labels"] for o in outputs if o.get("labels")}
    spec = stored.read(
        data["spec"], folder / layout.MANIFEST, folder / layout.ONNX, folder / layout.GOLDEN, labels
    )
    if spec.name != model:
        raise ReleaseError(f"{folder}: its manifest is of {model}, and its spec of {spec.name}")
    # What it was made of is the business of whoever built it: untrained weights are named, as always.
    job = build.Job(spec, store, engine, identity, allow_untrained=True, given=part)
    with store.lock(f"taking over a release of {model}"):
        found = here(store, data, identity)
        if found is not None:
            progress.say(f"{model}: release {found} is this very release")
            return build.row(job, found, "unchanged", store.manifest(model, found))
        if why:
            progress.say(f"{model}: its engine is {why}: one is built here of its ONNX file")
        row = build.make(job)
    return {**row, "action": "pulled" if row["action"] == "built" and part.fits else row["action"]}


def load(folder: Path) -> Dict[str, Any]:
    """The manifest in ``folder``; raises ReleaseError for what is none of this version's."""
    try:
        data = manifests.load(folder / layout.MANIFEST)
        return checked(data, str(folder / layout.MANIFEST))
    except VolumeError as e:
        raise ReleaseError(str(e)) from e


def checked(data: Dict[str, Any], where: str) -> Dict[str, Any]:
    """``data`` if it is a manifest that can be taken over; raises ReleaseError."""
    if data.get("schema") != manifests.SCHEMA:
        raise ReleaseError(
            f"{where}: schema {data.get('schema')}",
            expected=f"schema {manifests.SCHEMA}",
            remedy="take it over with the version that made it, or build the model here",
        )
    try:
        manifests.Manifest.of(data)
        given.key(data)
        bad = [name for name in data["files"] if not NAME.fullmatch(name)]
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise ReleaseError(f"{where}: cannot be read as a manifest: {type(e).__name__} {e}") from e
    if bad:
        raise ReleaseError(f"{where}: it names a file {bad[0]!r}, which no release has")
    return data


def here(store: Store, data: Mapping[str, Any], identity: Mapping[str, Any]) -> Optional[int]:
    """The newest whole release on the volume that is this one, as far as it concerns this machine: the same
    files and configuration, and the same engine, or any engine for this machine where that one is not."""
    model = str(data["model"])
    wanted, fits = given.key(data), not unfit(data["engine"], identity)
    releases = ModelReleases(store, model)
    live = store.live(model)
    for version in sorted(releases.versions, key=lambda v: (v == live, v), reverse=True):
        try:
            mine = store.manifest(model, version)
            if mine.get("schema") != manifests.SCHEMA or given.key(mine) != wanted:
                continue
            same = (
                mine["engine"]["sha256"] == data["engine"]["sha256"]
                if fits
                else not unfit(mine["engine"], identity)
            )
        except (BuilderError, KeyError, TypeError):
            continue
        if same and releases.failure(version) is None and not store.damage(model, version):
            return version
    return None


def _whole(part: Given) -> None:
    """Raise ReleaseError where a file is missing, or is not the one that the manifest names."""
    data = part.data
    names = [*given.shared(data)]
    engine = part.engine.relative_to(part.folder).as_posix()
    if part.fits:
        names.append(engine)
        if data["files"].get(engine) != data["engine"]["sha256"]:
            raise ReleaseError(f"{part.folder}: its manifest names two engines")
    for name in names:
        file = part.folder / name
        if not file.is_file():
            raise ReleaseError(f"{part.folder}: {name} is missing")
        if hashing.of_path(file) != data["files"][name]:
            raise ReleaseError(f"{file} does not have the sha256 of its manifest", remedy="pull it again")
