"""A release as an OCI artifact: one image index, in it a manifest for each kind of engine.

    index       artifactType RELEASE; annotations: the model, its number, the key of what all engines share
    manifest    artifactType ENGINE; annotations: engine, version, GPU, compute capability; a layer a file,
                called as in the release's folder by the annotation org.opencontainers.image.title

A layer's digest is the sha256 that the release's own manifest.json, a layer too, has for the file. ONNX
model, golden samples and labels are the same blobs in each manifest, and so are there once. ``oras pull``
lays out what a release's folder holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.artifact.errors import ArtifactError
from cluster.registry.client import INDEX, MANIFEST, digest_of

RELEASE = "application/vnd.tensorflow-triton.release.v1"
ENGINE = "application/vnd.tensorflow-triton.engine.v1"
FILE = "application/vnd.tensorflow-triton.file.v1"
EMPTY, EMPTY_TYPE = b"{}", "application/vnd.oci.empty.v1+json"
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"
CREATED = "org.opencontainers.image.created"
_OURS = "tensorflow-triton."
KEY = f"{_OURS}release-key"
_ENGINE_DIGEST = f"{_OURS}engine-digest"
# What tells one kind of engine from another, as annotations.
_KIND = tuple(_OURS + name for name in ("engine", "engine-version", "gpu", "compute-capability"))


@dataclass(frozen=True)
class Layer:
    """A file of a release: its name in the release's folder, its digest, its size in bytes."""

    name: str
    digest: str
    size: int


@dataclass(frozen=True)
class Entry:
    """One engine's manifest, as the index names it; ``size`` in bytes."""

    digest: str
    size: int
    annotations: Mapping[str, str]

    @property
    def kind(self) -> tuple[str, ...]:
        """What it is for: there is one entry of a kind."""
        return tuple(self.annotations.get(name, "") for name in _KIND)

    @property
    def engine(self) -> dict[str, Any]:
        """As a release's manifest has it."""
        name, version, gpu, capability = self.kind
        card = {"name": gpu, "compute_capability": capability or None} if gpu else None
        return {"name": name, "version": version, "gpu": card}

    @property
    def engine_digest(self) -> str:
        """Of the engine's own file."""
        return self.annotations.get(_ENGINE_DIGEST, "")

    def words(self) -> str:
        """For people: ``tensorrt 8.5.1, NVIDIA H100``."""
        name, version, gpu, _ = self.kind
        return f"{name} {version}{f', {gpu}' if gpu else ''}"


@dataclass(frozen=True)
class Index:
    """A release: what its index says."""

    model: str
    key: str
    number: str
    created: str
    entries: tuple[Entry, ...] = field(default=())

    def with_entry(self, entry: Entry) -> Index:
        """This index with an entry more, or another one of its kind."""
        others = [e for e in self.entries if e.kind != entry.kind]
        entries = tuple(sorted([*others, entry], key=lambda e: e.kind))
        return Index(self.model, self.key, self.number, self.created, entries)

    def data(self) -> bytes:
        """The same bytes for the same release."""
        annotations = {TITLE: self.model, VERSION: self.number, CREATED: self.created, KEY: self.key}
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": INDEX,
                "artifactType": RELEASE,
                "manifests": [
                    {
                        "mediaType": MANIFEST,
                        "artifactType": ENGINE,
                        "digest": e.digest,
                        "size": e.size,
                        "annotations": dict(e.annotations),
                    }
                    for e in self.entries
                ],
                "annotations": annotations,
            }
        )


def notes(engine: Mapping[str, Any]) -> dict[str, str]:
    """Of an entry, from a release manifest's ``engine``."""
    gpu = engine.get("gpu") or {}
    values = (engine["name"], engine["version"], gpu.get("name"), gpu.get("compute_capability"))
    found = {name: str(value) for name, value in zip(_KIND, values) if value}
    return {**found, _ENGINE_DIGEST: f"sha256:{engine['sha256']}"}


def manifest(layers: list[Layer], told: Mapping[str, str]) -> bytes:
    """An engine's manifest."""
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ENGINE,
            "config": {"mediaType": EMPTY_TYPE, "digest": digest_of(EMPTY), "size": len(EMPTY)},
            "layers": [
                {"mediaType": FILE, "digest": one.digest, "size": one.size, "annotations": {TITLE: one.name}}
                for one in layers
            ],
            "annotations": dict(told),
        }
    )


def index_of(data: bytes, where: str) -> Index:
    """Read an index; raises ArtifactError for what is no release."""
    try:
        found = json.loads(data)
        _typed(found, RELEASE)
        told = found["annotations"]
        entries = tuple(
            Entry(str(e["digest"]), int(e["size"]), {str(k): str(v) for k, v in e["annotations"].items()})
            for e in found["manifests"]
        )
        return Index(str(told[TITLE]), str(told[KEY]), str(told[VERSION]), str(told[CREATED]), entries)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise _foreign(where, e) from e


def layers_of(data: bytes, where: str) -> dict[str, Layer]:
    """The files of an engine's manifest by their names; raises ArtifactError for what is none."""
    try:
        found = json.loads(data)
        _typed(found, ENGINE)
        layers = [
            Layer(str(one["annotations"][TITLE]), str(one["digest"]), int(one["size"]))
            for one in found["layers"]
        ]
        return {one.name: one for one in layers}
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise _foreign(where, e) from e


def _typed(found: Mapping[str, Any], wanted: str) -> None:
    if found["artifactType"] != wanted:
        raise ValueError(f"its artifactType is {found['artifactType']}")


def _foreign(where: str, e: Exception) -> ArtifactError:
    return ArtifactError(
        "foreign",
        f"{where} is no release: {type(e).__name__} {e}",
        expected=f"an image index of {RELEASE}",
        remedy="./scripts/push MODEL puts one there",
    )


def _json(data: Any) -> bytes:
    return json.dumps(data, separators=(",", ":"), sort_keys=True).encode()
