"""Pull a release from the registry onto the models volume: signature, hashes, then the builder's gates."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import engine as engines
from builder import hashing, progress
from builder.errors import BuilderError
from builder.release import given, take
from builder.release.lifecycle import ModelReleases, unfit
from builder.release.store import Store
from cluster.artifact import signature
from cluster.artifact.errors import ArtifactError, BuildError
from cluster.artifact.format import Entry, Index, Layer, layers_of
from cluster.artifact.place import Place, said
from cluster.registry.references import Reference
from models_volume import layout

_MARGIN = 64 << 20  # bytes that stay free on the models volume
_LARGEST_TEXT = 4 << 20  # bytes of a release's manifest


@dataclass(frozen=True)
class Found:
    """A release in the registry, and what of it is for this machine."""

    reference: Reference
    digest: str
    index: Index
    entry: Entry
    layers: Mapping[str, Layer]
    data: Mapping[str, Any]

    @property
    def origin(self) -> dict[str, str]:
        """For the manifest of what it becomes."""
        return {"repository": self.reference.repository, "tag": self.index.number, "digest": self.digest}


def pull(
    place: Place,
    store: Store,
    model: str,
    ref: str,
    engine_name: str,
    environ: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Take over a release; not live. One that is here already moves no bytes.

    Args:
        ref: a digest, a number, or ``live``.
        engine_name: "tensorrt" or "onnxruntime": what serves here.

    Returns:
        model, version, action ("pulled", "built" or "unchanged"), digest, tag, received (bytes).

    Raises:
        ClusterError: RegistryError; ArtifactError; or BuildError: it does not pass a gate here.
    """
    keys = signature.public_keys(environ)
    reference = place.reference(model, ref)
    digest = ref if reference.by_digest else place.registry.head(reference.repository, reference.reference)
    if digest is None:
        raise ArtifactError(
            "foreign",
            f"{place.words(reference)} is not there",
            remedy=f"./scripts/push {model} puts it there",
        )
    signature.verify(place, reference.repository, digest, keys)
    reference = place.reference(model, digest)
    before = place.registry.received
    try:
        row = _known(store, model, digest) or _take(place, store, reference, engine_name)
    except BuilderError as e:
        raise BuildError(e) from e
    return {**row, "model": model, "digest": digest, "received": place.registry.received - before}


def _known(store: Store, model: str, digest: str) -> dict[str, Any] | None:
    """The release that this digest became here, if it is whole."""
    releases = ModelReleases(store, model)
    for version in sorted(releases.versions, reverse=True):
        try:
            origin = store.manifest(model, version).get("origin") or {}
        except BuilderError:
            continue
        if origin.get("digest") != digest or releases.failure(version) is not None:
            continue
        if not store.damage(model, version):
            progress.say(f"{model}: release {version} is {digest[:19]}; nothing is pulled")
            return {"version": version, "action": "unchanged", "tag": origin.get("tag")}
    return None


def _take(place: Place, store: Store, reference: Reference, engine_name: str) -> dict[str, Any]:
    identity = engines.create(engine_name).identity()
    found = _look(place, reference, identity)
    version = take.here(store, found.data, identity)
    if version is not None:
        progress.say(f"{reference.model}: release {version} is this very release; nothing is pulled")
        return {"version": version, "action": "unchanged", "tag": found.index.number}
    folder = (
        store.cache / f"pull.{reference.model}"
    )  # a dot, which no model's name has: no export is called so
    folder.mkdir(exist_ok=True)
    _download(place, store, found, folder, fits=not unfit(found.entry.engine, identity))
    row = take.take(folder, store, engine_name, origin=found.origin)
    shutil.rmtree(folder, ignore_errors=True)
    return {"version": row["version"], "action": row["action"], "tag": found.index.number}


def _look(place: Place, reference: Reference, identity: Mapping[str, Any]) -> Found:
    """The release's index, the engine for this machine or else any, and its own manifest."""
    digest, _, index = place.index(reference)
    where = place.words(reference)
    if index.model != reference.model or not index.entries:
        raise ArtifactError(
            "foreign", f"{where} is a release of {index.model!r} with {len(index.entries)} engines"
        )
    fit = [e for e in index.entries if not unfit(e.engine, identity)]
    entry = (fit or list(index.entries))[0]
    if not fit:
        known = "; ".join(e.words() for e in index.entries)
        progress.say(f"{reference.model}: no engine for this machine among: {known}")
    _, text, _ = place.registry.get_manifest(reference.repository, entry.digest)
    layers = layers_of(text, f"{where}: {entry.digest}")
    own = layers.get(layout.MANIFEST)
    if own is None or own.size > _LARGEST_TEXT:
        raise ArtifactError("foreign", f"{where}: it has no {layout.MANIFEST}")
    data = _manifest(b"".join(place.registry.blob(reference.repository, own.digest, own.size)), where)
    _agree(data, index, layers, where)
    return Found(reference, digest, index, entry, layers, data)


def _manifest(text: bytes, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as e:
        raise ArtifactError("foreign", f"{where}: its {layout.MANIFEST} is no JSON: {e}") from e
    if not isinstance(data, dict):
        raise ArtifactError("foreign", f"{where}: its {layout.MANIFEST} is no JSON object")
    return take.checked(data, where)


def _agree(data: Mapping[str, Any], index: Index, layers: Mapping[str, Layer], where: str) -> None:
    """Raise ArtifactError unless the registry's names for the files are those of the release's manifest."""
    if data["model"] != index.model or given.key(data) != index.key:
        raise ArtifactError("foreign", f"{where}: its index and its {layout.MANIFEST} are of two releases")
    for name, layer in layers.items():
        if name != layout.MANIFEST and layer.digest != f"sha256:{data['files'].get(name)}":
            raise ArtifactError(
                "foreign", f"{where}: {name} is not the file that its {layout.MANIFEST} names"
            )
    missing = [name for name in given.shared(data) if name not in layers]
    if missing:
        raise ArtifactError("foreign", f"{where}: {', '.join(missing)} is missing")


def _download(place: Place, store: Store, found: Found, folder: Path, *, fits: bool) -> None:
    """Every file that is needed in ``folder``: from a release here, from a pull that broke off, or pulled."""
    needed = (
        found.layers if fits else {n: found.layers[n] for n in (*given.shared(found.data), layout.MANIFEST)}
    )
    local = _local(store, found.reference.model)
    for stale in [p for p in folder.rglob("*") if p.is_file()]:
        if stale.relative_to(folder).as_posix() not in needed:
            stale.unlink()
    missing = {name: layer for name, layer in needed.items() if not _has(folder / name, layer)}
    size, free = sum(layer.size for layer in missing.values()), shutil.disk_usage(folder).free
    if free < size + _MARGIN:
        raise ArtifactError(
            "space",
            f"{free >> 20} MiB are free on the models volume {store.root}",
            expected=f"{(size + _MARGIN) >> 20} MiB for {place.words(found.reference)}",
            remedy="./scripts/prune --keep 2 removes old releases",
        )
    local.update({layer.digest: folder / name for name, layer in needed.items() if name not in missing})
    for name, layer in missing.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = target.with_name(f".{target.name}.new")
        mine = local.get(layer.digest)
        if mine is not None:
            shutil.copyfile(mine, fresh)  # its hash is checked with the others'
        else:
            with said(f"{found.reference.model}: {name}", layer.size), fresh.open("wb") as file:
                for piece in place.registry.blob(found.reference.repository, layer.digest, layer.size):
                    file.write(piece)
        fresh.replace(target)
        local[layer.digest] = target


def _local(store: Store, model: str) -> dict[str, Path]:
    """The files of this model's releases by digest, as their manifests name them."""
    files = {}
    for version in store.versions(model):
        try:
            named = store.manifest(model, version).get("files") or {}
        except BuilderError:
            continue
        folder = store.folder(model, version)
        files.update(
            {f"sha256:{sha}": folder / name for name, sha in named.items() if (folder / name).is_file()}
        )
    return files


def _has(file: Path, layer: Layer) -> bool:
    """Whether an earlier pull has left this file whole."""
    return (
        file.is_file()
        and file.stat().st_size == layer.size
        and f"sha256:{hashing.of_path(file)}" == layer.digest
    )
