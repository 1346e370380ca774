"""Documents in a registry: each is a tag, whose manifest carries the document as an annotation.

One request reads a document, and one writes it. A registry has no compare-and-swap: the last writer of a tag
wins, so each tag has one writer at a time (a node its report, the driver that holds the lease the rest).
"""

from __future__ import annotations

import json
from typing import Any

from cluster.registry.client import MANIFEST, Registry, digest_of
from cluster.registry.errors import RegistryError
from cluster.state.store import Document

DOCUMENT = "application/vnd.tensorflow-triton.document.v1+json"
_NOTE = "document"
_EMPTY, _EMPTY_TYPE = b"{}", "application/vnd.oci.empty.v1+json"


class RegistryStore:
    """A ``StateStore``; each method raises RegistryError, and ``read`` ValueError for what is no document."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._ready: set[str] = set()  # repositories that have the empty blob

    def read(self, repo: str, tag: str) -> tuple[str, Document] | None:
        """A document and its digest; None where there is none."""
        try:
            digest, data, _ = self._registry.get_manifest(repo, tag)
        except RegistryError as e:
            if e.kind == "missing":
                return None
            raise
        return digest, _document(data, f"{repo}:{tag}")

    def write(self, repo: str, tag: str, document: Document) -> str:
        """Put a document in the place of the one before; its digest."""
        empty = {"mediaType": _EMPTY_TYPE, "digest": digest_of(_EMPTY), "size": len(_EMPTY)}
        data = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": DOCUMENT,
            "config": empty,
            "layers": [empty],
            "annotations": {_NOTE: json.dumps(document, separators=(",", ":"), sort_keys=True)},
        }
        manifest = json.dumps(data).encode()
        if repo in self._ready:
            try:
                return self._registry.put_manifest(repo, tag, manifest, MANIFEST)
            except RegistryError as e:
                if e.kind not in ("missing", "refused"):
                    raise
                # The registry may have lost its storage, and the empty blob with it.
        self._registry.put_blob(repo, _EMPTY)
        self._ready.add(repo)
        return self._registry.put_manifest(repo, tag, manifest, MANIFEST)

    def digest(self, repo: str, tag: str) -> str | None:
        """What a tag points to, document or release; None where there is no such tag."""
        return self._registry.head(repo, tag)

    def tags(self, repo: str, prefix: str) -> list[str]:
        """The tags that begin with ``prefix``, sorted."""
        return sorted(tag for tag in self._registry.tags(repo) if tag.startswith(prefix))

    def delete(self, repo: str, tag: str) -> None:
        """Remove a tag, if it is there and the registry takes deletions.

        A registry deletes by digest, so two tags with the same bytes would both go. Documents here name whose
        they are, so no two are alike.
        """
        digest = self._registry.head(repo, tag)
        if digest is not None:
            self._registry.delete(repo, digest)


def _document(data: bytes, where: str) -> Document:
    try:
        found: Any = json.loads(data)
        if found["artifactType"] != DOCUMENT:
            raise ValueError(f"artifactType {found['artifactType']}")  # noqa: TRY301
        document = json.loads(found["annotations"][_NOTE])
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(f"{where} is no document: {type(e).__name__} {e}") from e
    if not isinstance(document, dict):
        raise ValueError(f"{where} is no document: it is no JSON object")  # noqa: TRY004  (data, no argument)
    return document
