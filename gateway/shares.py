"""Canaries: how much of a model's requests they get, and how much is copied for a comparison with them.

A share is exact because each request is decided by itself, at random, before a server is chosen: to a
canary, or to one of the others, which divide what is left as always. Weights alone would not do that, as
the server with the fewest requests is taken. So a canary has the weight 0 as long as its model has a share,
and is named by the Lua action ``share`` for the requests that it gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, FrozenSet, Iterable, List, Mapping, Sequence, Tuple

from gateway.servers import READY, Server
from models_volume.traffic import Canary

MILLION = 1_000_000


@dataclass(frozen=True)
class Split:
    """A model's servers in two: ``canaries`` and ``others``."""

    canaries: Tuple[Server, ...]
    others: Tuple[Server, ...]


def splits(
    canaries: Mapping[str, Canary], models: Iterable[str], servers: Sequence[Server]
) -> Dict[str, Split]:
    """The models that have both canaries and other servers: with one kind alone there is nothing to share."""
    found = {}
    for model in models:
        canary = canaries.get(model)
        if canary is None:
            continue
        there = [s for s in servers if s.takes(model) == READY]
        chosen = tuple(s for s in there if canary.has(s.id, s.place))
        others = tuple(s for s in there if s not in chosen)
        if chosen and others:
            found[model] = Split(chosen, others)
    return found


def rows(canaries: Mapping[str, Canary], found: Mapping[str, Split]) -> List[Tuple[str, str]]:
    """The map of shares: millionths and the canaries' names, by model."""
    return [
        (model, ",".join([str(round(share * MILLION)), *(s.name for s in split.canaries)]))
        for model, split in sorted(found.items())
        for share in [canaries[model].share]
        if share is not None
    ]


def shadow_rows(canaries: Mapping[str, Canary], found: Mapping[str, Split]) -> List[Tuple[str, str]]:
    """The map of copies: millionths, and where canaries and others listen for HTTP, by model."""
    return [
        (model, f"{round(part * MILLION)};{_places(split.canaries)};{_places(split.others)}")
        for model, split in sorted(found.items())
        for part in [canaries[model].shadow]
        if part
    ]


def _places(servers: Iterable[Server]) -> str:
    return ",".join(f"{s.address}:{s.http}" for s in servers)


def without_weight(canaries: Mapping[str, Canary], found: Mapping[str, Split]) -> Dict[str, FrozenSet[str]]:
    """By model: the servers that only get what is meant for them."""
    return {
        model: frozenset(s.name for s in split.canaries)
        for model, split in found.items()
        if canaries[model].share is not None
    }
