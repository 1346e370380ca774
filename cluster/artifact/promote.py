"""Promote a release: the tag ``live`` names it from then on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from builder import progress
from cluster.artifact import signature
from cluster.artifact.place import Place
from cluster.registry.client import INDEX
from cluster.registry.references import LIVE


def promote(place: Place, model: str, ref: str, environ: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Move the tag ``live`` to a release.

    Args:
        ref: a number or a digest.

    Returns:
        model, digest, tag (its number), previous (the digest that was live before, or None), action.

    Raises:
        ClusterError: there is no such release, or it is not signed by a key that is trusted here.
    """
    reference = place.reference(model, ref)
    digest, data, index = place.index(reference)
    signature.verify(place, reference.repository, digest, signature.public_keys(environ))
    previous = place.registry.head(reference.repository, LIVE)
    if previous != digest:
        place.registry.put_manifest(reference.repository, LIVE, data, INDEX)
    progress.say(f"{model}: {LIVE} is release {index.number} ({digest[:19]})")
    return {
        "model": model,
        "digest": digest,
        "tag": index.number,
        "previous": previous,
        "action": "unchanged" if previous == digest else "promoted",
    }
