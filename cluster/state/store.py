"""How documents are read and written: one protocol, and a store in memory for tests and simulations."""

from __future__ import annotations

import copy
import hashlib
import json
from typing import Any, Protocol

Document = dict[str, Any]


class StateStore(Protocol):
    """Documents by repository (of a model) and tag. Every method may raise when the store does not answer."""

    def read(self, repo: str, tag: str) -> tuple[str, Document] | None:
        """A document and its digest; None where there is none."""

    def write(self, repo: str, tag: str, document: Document) -> str:
        """Put a document in the place of the one before; its digest."""

    def digest(self, repo: str, tag: str) -> str | None:
        """What a tag points to, document or release; None where there is no such tag."""

    def tags(self, repo: str, prefix: str) -> list[str]:
        """The tags that begin with ``prefix``."""

    def delete(self, repo: str, tag: str) -> None:
        """Remove a tag, if it is there."""


class MemoryStore:
    """A store in this process; ``releases`` are tags that name a release, by repository and tag."""

    def __init__(self) -> None:
        self.releases: dict[tuple[str, str], str] = {}
        self._documents: dict[tuple[str, str], Document] = {}

    def read(self, repo: str, tag: str) -> tuple[str, Document] | None:
        """A copy, as a registry would give it."""
        found = self._documents.get((repo, tag))
        return None if found is None else (_digest(found), copy.deepcopy(found))

    def write(self, repo: str, tag: str, document: Document) -> str:
        """Keeps a copy; raises TypeError for what JSON does not take."""
        self._documents[repo, tag] = json.loads(json.dumps(document))
        return _digest(document)

    def digest(self, repo: str, tag: str) -> str | None:
        """Of a release, or of a document."""
        found = self._documents.get((repo, tag))
        return self.releases.get((repo, tag)) if found is None else _digest(found)

    def tags(self, repo: str, prefix: str) -> list[str]:
        """Sorted."""
        return sorted(t for r, t in {*self._documents, *self.releases} if r == repo and t.startswith(prefix))

    def delete(self, repo: str, tag: str) -> None:
        """Removes either kind."""
        self._documents.pop((repo, tag), None)
        self.releases.pop((repo, tag), None)


def _digest(document: Document) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
