"""Push a release of the models volume to the registry, beside the engines that others have pushed of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder import progress
from builder.errors import BuilderError
from builder.release import given, take
from builder.release.lifecycle import ModelReleases
from builder.release.store import Store
from cluster.artifact import signature
from cluster.artifact.errors import ArtifactError, BuildError
from cluster.artifact.format import EMPTY, Entry, Index, Layer, index_of, manifest, notes
from cluster.artifact.place import Place, said
from cluster.registry.client import INDEX, MANIFEST, digest_of
from cluster.registry.errors import RegistryError
from cluster.registry.references import Reference
from models_volume import layout

_TRIES = 5  # for two machines that push their engines of one release at once


def push(
    place: Place,
    store: Store,
    model: str,
    version: int | None = None,
    number: str = "",
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Push a release; what is there already moves no bytes.

    Args:
        version: the local release; the live one without it.
        number: its tag in the registry; where left out, the number that it was pulled under, or its own.

    Returns:
        model, version, tag, digest (of the index), action ("pushed" or "unchanged"), sent (bytes), signed,
        engines (words).

    Raises:
        ClusterError: there is no such release, it is damaged or failed, or the tag is another release's.
    """
    key = signature.signing_key(environ)
    try:
        version, data = _local(store, model, version)
    except BuilderError as e:
        raise BuildError(e) from e
    number = number or str((data.get("origin") or {}).get("tag") or version)
    reference = place.reference(model, number)
    folder = store.folder(model, version)
    entry, layers, text = _entry(folder, data)
    before = place.registry.sent
    digest, index, moved = _published(place, reference, data, folder, entry, layers, text)
    if key is not None:
        signature.sign(place, reference.repository, digest, key)
    sent = place.registry.sent - before
    words = "; ".join(e.words() for e in index.entries)
    progress.say(
        f"{model}: release {version} is {place.words(reference)} ({digest[:19]}): {sent >> 20} MiB sent"
    )
    return {
        "model": model,
        "version": version,
        "tag": number,
        "digest": digest,
        "action": "pushed" if moved else "unchanged",
        "sent": sent,
        "signed": key is not None,
        "engines": words,
    }


def _local(store: Store, model: str, version: int | None) -> tuple[int, dict[str, Any]]:
    """The release's number and its manifest; raises BuilderError."""
    releases = ModelReleases(store, model)
    if not releases.versions:
        raise BuilderError(
            f"there is no model {model}", expected=", ".join(store.models()) or "none is built"
        )
    if version is None:
        version = releases.live
    if version is None or version not in releases.versions:
        known = ", ".join(map(str, releases.versions))
        what = "has no live release" if version is None else f"has no release {version}"
        raise BuilderError(f"{model} {what}", expected=f"one of: {known}")
    why = releases.failure(version)
    if why is not None:
        raise BuilderError(f"{model} release {version} failed: {why['reason']}", remedy="push a proven one")
    damage = store.damage(model, version)
    if damage:
        raise BuilderError(f"{model} release {version} is damaged: {damage}", remedy="build it again")
    data = store.manifest(model, version)
    return version, take.checked(data, f"{model} release {version}")


def _entry(folder: Path, data: Mapping[str, Any]) -> tuple[Entry, list[Layer], bytes]:
    """The manifest of this release's engine, and its files."""
    first, engine = [*given.shared(data)], f"model/{data['version']}/{data['engine']['file']}"
    kept = [n for n in data["files"] if n not in (*first, engine, layout.CONFIG, layout.VERIFIED)]
    layers = [_layer(folder, name, data["files"][name]) for name in (*first, engine, *sorted(kept))]
    own = (folder / layout.MANIFEST).read_bytes()
    layers.append(Layer(layout.MANIFEST, digest_of(own), len(own)))
    told = notes(data["engine"])
    text = manifest(layers, told)
    return Entry(digest_of(text), len(text), told), layers, text


def _layer(folder: Path, name: str, sha256: str) -> Layer:
    return Layer(name, f"sha256:{sha256}", (folder / name).stat().st_size)


def _published(
    place: Place,
    reference: Reference,
    data: Mapping[str, Any],
    folder: Path,
    entry: Entry,
    layers: list[Layer],
    text: bytes,
) -> tuple[str, Index, bool]:
    """Put the entry into the tag's index: the index' digest, and whether anything was written."""
    moved = False
    for _ in range(_TRIES):
        digest, index = _there(place, reference, data)
        mine = {e.kind: e for e in index.entries}.get(entry.kind)
        if digest and mine is not None and mine.engine_digest == entry.engine_digest:
            return digest, index, moved
        if not moved:
            _send(place, reference.repository, folder, layers)
            place.registry.put_manifest(reference.repository, entry.digest, text, MANIFEST)
        moved = True
        place.registry.put_manifest(
            reference.repository, reference.reference, index.with_entry(entry).data(), INDEX
        )
        # Another machine may have written the tag meanwhile: look again, and add to what it wrote.
    raise ArtifactError(
        "other",
        f"{place.words(reference)} is written by others at the same time, {_TRIES} times over",
        remedy="push it again",
    )


def _there(place: Place, reference: Reference, data: Mapping[str, Any]) -> tuple[str, Index]:
    """What the tag holds already: its digest and index; an empty index where there is no such tag."""
    wanted = given.key(data)
    try:
        digest, found, _ = place.registry.get_manifest(reference.repository, reference.reference)
    except RegistryError as e:
        if e.kind != "missing":
            raise
        return "", Index(reference.model, wanted, reference.reference, str(data["created"]))
    index = index_of(found, place.words(reference))
    if index.key != wanted:
        tags = [int(t) for t in place.registry.tags(reference.repository) if t.isdecimal()]
        raise ArtifactError(
            "other",
            f"{place.words(reference)} is another release of {reference.model} than the one to be pushed",
            remedy=f"push it under another number: --as {max([*tags, 0]) + 1}",
        )
    return digest, index


def _send(place: Place, repository: str, folder: Path, layers: list[Layer]) -> None:
    place.registry.put_blob(repository, EMPTY)
    for layer in layers:
        with said(layer.name, layer.size):
            digest, _ = place.registry.put_blob(repository, folder / layer.name)
        if digest != layer.digest:
            raise ArtifactError(
                "other",
                f"{folder / layer.name} has changed since its release was made",
                remedy="build it again",
            )
