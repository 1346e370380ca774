"""What the live releases take, read from their manifests: the gate's table, and limits that follow.

While a release goes live, Triton answers with the former one for up to a poll and a load, and a failed one
goes back. So a model has several contracts for that time: its live release's, the one that it would go back
to, and the former ones for as long as a server may serve them. What is valid under any of them passes, and
Triton, which knows what it serves, has the last word.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

from models_volume import manifest
from models_volume.errors import VolumeError
from models_volume.layout import BACK, Volume
from models_volume.manifest import Manifest, Tensor

NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_BYTES = {"UINT8": 1, "INT32": 4, "FP16": 2, "FP32": 4}
# Characters of one element in JSON, with its comma: 255, -2147483648, and what float32 and a double print as.
_JSON_CHARS = {"UINT8": 4, "INT32": 12, "FP16": 0, "FP32": 24}
_LEAST = 128 << 10  # bytes of a buffer: the headers must fit, with room for our own
_SLACK = 64 << 10  # bytes of a request besides its tensors: names, parameters, an id


@dataclass(frozen=True)
class Contract:
    """One release's contract.

    Attributes:
        text: the gate's form of it, a JSON object.
        bytes: the content of the largest batch, in bytes.
        json_bytes: the same written as JSON.
    """

    text: str
    bytes: int
    json_bytes: int


# By model and version: a release never changes.
Cache = Dict[Tuple[str, int], Contract]


def of(release: Manifest) -> Contract:
    """The contract that a manifest describes; raises KeyError for a dtype that is not ours."""
    elements = [(t.dtype, release.max_batch * _largest(t)) for t in release.inputs]
    facts: Dict[str, Any] = {
        "max": release.max_batch,
        "inputs": [{"name": t.name, "dtype": t.dtype, "dims": _ranges(t)} for t in release.inputs],
        "outputs": [t.name for t in release.outputs],
    }
    return Contract(
        text=json.dumps(facts, separators=(",", ":")),
        bytes=sum(_BYTES[dtype] * n for dtype, n in elements),
        json_bytes=sum(_JSON_CHARS[dtype] * n for dtype, n in elements),
    )


def live(volume: Volume, cache: Cache) -> Dict[str, List[Contract]]:
    """Each published model's contracts on the volume, the live release's first.

    A model whose manifest cannot be read is not published: nothing could be compared with it.
    """
    found: Dict[str, List[Contract]] = {}
    for model, version in volume.all_live().items():
        if not NAME.fullmatch(model):
            continue
        versions = [version]
        if volume.pending(model):
            back = volume.names(volume.of_model(model) / BACK)
            versions += [back] if back is not None else []
        contracts = [_read(volume, model, v, cache) for v in versions]
        if contracts[0] is not None:
            found[model] = list(dict.fromkeys(c for c in contracts if c is not None))
    return found


def _read(volume: Volume, model: str, version: int, cache: Cache) -> Any:
    if (model, version) not in cache:
        try:
            cache[model, version] = of(manifest.read(volume, model, version))
        except (VolumeError, KeyError, OSError):
            return None
    return cache[model, version]


class Accepted:
    """The contracts that requests may follow just now: those on the volume, and former ones for a while."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: Dict[str, Dict[Contract, float]] = {}

    def update(self, found: Dict[str, List[Contract]], now: float) -> Dict[str, List[Contract]]:
        """What holds at ``now`` (a monotonic clock) with ``found`` on the volume."""
        for model in set(self._until) - set(found):
            del self._until[model]  # retired: nothing of it is published any more
        accepted = {}
        for model, contracts in found.items():
            known = self._until.setdefault(model, {})
            known.update(dict.fromkeys(contracts, now + self._seconds))
            self._until[model] = known = {c: end for c, end in known.items() if end > now}
            accepted[model] = [*contracts, *(c for c in known if c not in contracts)]
        return accepted


def gate_text(contracts: List[Contract]) -> str:
    """A model's contracts in one word, for a map of HAProxy: JSON, with % and two digits for a sign."""
    text = f"[{','.join(c.text for c in contracts)}]"
    return "".join(chr(b) if chr(b).isalnum() and b < 128 else f"%{b:02x}" for b in text.encode("utf-8"))


def grpc_bytes(contracts: List[Contract]) -> int:
    """How long a gRPC message for the model may be. Where a client sends `contents` instead of raw bytes, a
    UINT8 takes up to two bytes and a negative INT32 ten, which is less than three times the raw form."""
    return max(3 * c.bytes for c in contracts) + _SLACK


def buffer_bytes(models: Dict[str, List[Contract]], cap: int) -> int:
    """The buffer that takes every model's largest JSON request, within ``cap``."""
    needed = max((c.json_bytes for contracts in models.values() for c in contracts), default=0) + _SLACK
    size = _LEAST
    while size < min(needed, cap):
        size <<= 1
    return min(size, max(cap, _LEAST))


def _ranges(tensor: Tensor) -> List[List[int]]:
    """Each dimension's least and largest size, without the batch."""
    ranges = tensor.ranges or (None,) * len(tensor.dims)
    return [[r["min"], r["max"]] if r else [d, d] for d, r in zip(tensor.dims, ranges)]


def _largest(tensor: Tensor) -> int:
    total = 1
    for _, high in _ranges(tensor):
        total *= high
    return total
