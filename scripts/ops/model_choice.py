"""Which model a verb works on: the same rule for all of them."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from ops.errors import OpsError


def known(models: Mapping[str, Any], names: List[str]) -> List[str]:
    """``names``, or all of ``models`` where none is named.

    Raises:
        OpsError: one of them is not on the models volume.
    """
    for name in names:
        if name not in models:
            raise _unknown(name, list(models))
    return names or list(models)


def only_live(models: Mapping[str, Any], name: Optional[str]) -> str:
    """``name``, or the one model that is live.

    Raises:
        OpsError: it is not on the models volume; or none was named and none or several are live.
    """
    if name is not None:
        return known(models, [name])[0]
    live = [model for model, facts in models.items() if facts["live"]]
    if len(live) == 1:
        return live[0]
    if not live:
        raise OpsError("no model is live", remedy="./scripts/up builds and serves $MODELS")
    raise OpsError(
        f"{len(live)} models are live and none was named",
        expected=f"one of: {', '.join(live)}",
        remedy=f"--model {live[0]}",
    )


def _unknown(name: str, models: List[str]) -> OpsError:
    if not models:
        return OpsError(f'there is no model "{name}": nothing has been built yet', remedy="./scripts/up")
    return OpsError(f'there is no model "{name}"', expected=f"one of: {', '.join(models)}")
