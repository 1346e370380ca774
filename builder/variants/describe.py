"""A spec's batch sizes and serving keys as they count, its defaults written out."""

from __future__ import annotations

from typing import Any

from builder import hashing
from builder.spec import document, loader, serving, yaml_file
from builder.spec.fields import Context


def describe(name_or_file: str) -> dict[str, Any]:
    """What is to be known of a spec before others like it are tried.

    Returns:
        name, file, shipped (whether it is one of ours), sha256 of the text, batch (min, opt, max), serving
        (every key), levers (the names of serving's keys), precision, free (whether an input has a free
        dimension).

    Raises:
        SpecError: there is no such spec, or it is refused.
    """
    file = loader.find(name_or_file).resolve()
    spec = loader.load(file)
    read = document.Document.model_validate(yaml_file.read(file), context=Context(file.parent))
    return {
        "name": spec.name,
        "file": str(file),
        "shipped": file.parent == loader.MODELS,
        "sha256": hashing.of_path(file),
        "batch": {"min": spec.batch.min, "opt": spec.batch.opt, "max": spec.batch.max},
        "serving": read.serving.model_dump(mode="json"),
        "levers": sorted(serving.Serving.model_fields),
        "precision": spec.precision,
        "free": any(i.free for i in spec.inputs),
    }
