"""A stack file's text: YAML in which every string is quoted, so that nothing is taken for something else."""

from __future__ import annotations

import json
from typing import Any, Iterator, Sequence

_HEAD = "Made by ./scripts/swarm from the Compose files; docker stack deploy -c FILE NAME"


def text(content: Any, notes: Sequence[str]) -> str:
    """The file; ``notes`` are its first lines, as comments."""
    lines = [f"# {_HEAD}", *(["#", "# What Swarm does not do:"] if notes else [])]
    lines += [f"#   {note}" for note in notes]
    return "\n".join([*lines, *_block(content, "")]) + "\n"


def _block(value: Any, indent: str) -> Iterator[str]:
    """The lines of a mapping or a list that is not empty."""
    if isinstance(value, dict):
        for key, inner in value.items():
            name = key if key.replace("_", "").replace("-", "").isalnum() else json.dumps(key)
            if isinstance(inner, (dict, list)) and inner:
                yield f"{indent}{name}:"
                yield from _block(inner, indent + "  ")
            else:
                yield f"{indent}{name}: {json.dumps(inner, ensure_ascii=False)}"
        return
    for inner in value:
        if isinstance(inner, (dict, list)) and inner:
            first, *rest = _block(inner, indent + "  ")
            yield f"{indent}- {first.strip()}"
            yield from rest
        else:
            yield f"{indent}- {json.dumps(inner, ensure_ascii=False)}"
