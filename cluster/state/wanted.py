"""Which release a node is to serve: the one rule that agents and the simulation share."""

from __future__ import annotations

from typing import Any, Mapping


def wanted(document: Mapping[str, Any] | None, live: str | None, node: str) -> str | None:
    """The digest that a node is to serve; None where there is none.

    Args:
        document: the model's rollout document; None without one.
        live: what the tag ``live`` points to.

    Raises:
        ValueError: the document's state is none that is known.
        KeyError: it lacks a key.
    """
    if document is None:
        return live
    state, target, previous = document["state"], document["target"], document["previous"]
    if state in ("running", "paused"):
        found = target if node in document["allowed"] else previous
    elif state == "done":
        found = target
    elif state in ("going_back", "gone_back", "failed"):
        found = previous
    else:
        raise ValueError(f"the rollout's state is {state!r}")
    if found is not None and not isinstance(found, str):
        raise ValueError(f"the rollout names {found!r} as a release")
    return found
