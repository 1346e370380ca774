"""The registry that is set, and what is in it under a model's name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from builder import progress
from cluster.artifact.format import Index, index_of
from cluster.registry import credentials, references
from cluster.registry.client import Registry
from cluster.registry.references import Reference, RegistrySettings

_LARGE = 8 << 20  # bytes


@dataclass(frozen=True)
class Place:
    """A registry and its settings."""

    settings: RegistrySettings
    registry: Registry

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Place:
        """From the environment; raises ClusterError where none is set or the credentials cannot be read."""
        settings = RegistrySettings.of(environ)
        shown = credentials.of_host(settings.host, environ)
        return cls(settings, Registry(settings.host, shown, settings.plain, settings.ca))

    def reference(self, model: str, ref: str = "") -> Reference:
        """MODEL, MODEL:TAG or MODEL@DIGEST, or a model and its tag or digest apart; raises ClusterError."""
        between = "@" if references.is_digest(ref) else ":"
        return references.parse(f"{model}{between}{ref}" if ref else model, self.settings)

    def index(self, reference: Reference) -> tuple[str, bytes, Index]:
        """A release's index: its digest, its bytes and what they say; raises ClusterError."""
        digest, data, _ = self.registry.get_manifest(reference.repository, reference.reference)
        return digest, data, index_of(data, self.words(reference))

    def words(self, reference: Reference) -> str:
        """For people: host/repository and reference."""
        return f"{self.settings.host}/{reference}"


@contextmanager
def said(what: str, size: int) -> Iterator[None]:
    """Say how long a file of ``size`` bytes takes to be moved, where that is worth a line."""
    if size < _LARGE:
        yield
        return
    with progress.step(f"{what} ({size >> 20} MiB)"):
        yield
