"""What is tried: batch sizes, how the model is served, settings of the server; the most promising first.

A candidate differs from the spec only where it has to: its ``changes`` are what a patch of the spec would
say. ``batch.max`` never shrinks: clients may send that many.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from ops.tune.judge.statistics import PRESENT

Changes = Dict[str, Any]
_LARGEST = 4096  # of the spec's batch sizes
# What the settings of the server are tried at, beside the present ones (.env says what they do).
SERVER = ({"COPY_THREADS": "2"}, {"COPY_THREADS": "4"}, {"GRPC_ALLOCATION_POOL": "64"})


@dataclass(frozen=True)
class Candidate:
    """One configuration.

    Attributes:
        name: of its model on the scratch server.
        changes: the spec's keys that differ, as a nested mapping; none for the present one.
        server: settings of the whole server that differ.
    """

    name: str
    changes: Changes = field(default_factory=dict)
    server: Dict[str, str] = field(default_factory=dict)

    def words(self) -> str:
        """What differs, for people."""
        parts = [f"{key} {_word(value)}" for key, value in _leaves(self.changes)]
        parts += [f"{key}={value}" for key, value in self.server.items()]
        return ", ".join(parts) or "as it is"


@dataclass(frozen=True)
class Present:
    """The present spec, as the builder describes it: batch, serving with its defaults, and serving's keys.

    ``int8``: what the spec would say to be INT8 (precision and calibration); empty: that is not tried.
    """

    batch: Mapping[str, int]
    serving: Mapping[str, Any]
    levers: Sequence[str]
    int8: Mapping[str, Any] = field(default_factory=dict)

    def instances(self, device: str) -> int:
        """How many there are."""
        return int(self.serving["instances"][device])

    def differing(self, wanted: Changes) -> Changes:
        """``wanted`` without what the spec has already, and without keys that this builder does not know."""
        serving = {k: v for k, v in wanted.get("serving", {}).items() if k in self.levers}
        found = {
            **{k: v for k, v in wanted.items() if k not in ("batch", "serving")},
            "batch": _differing(self.batch, wanted.get("batch", {})),
            "serving": _differing(self.serving, serving),
        }
        return {key: value for key, value in found.items() if value}


def engines(present: Present, kind: str) -> List[Changes]:
    """What is worth an engine of its own, the most promising first for an objective: other batch sizes, and
    INT8 where it may be tried."""
    most = present.batch["max"]
    small = [(1, most), (8, most)]
    large = [(most, most), (64, max(128, most)), (128, max(128, most))]
    wanted = {
        "latency": small,
        "throughput": [*large, *small[1:]],
        "balanced": [small[1], *large[:2], small[0]],
    }[kind]
    found: List[Changes] = []
    for opt, top in wanted:
        changes = present.differing({"batch": {"opt": min(opt, top), "max": min(top, _LARGEST)}})
        if changes and changes not in found:
            found.append(changes)
    if not present.int8:
        return found
    int8 = dict(present.int8)
    return [int8, *found[:1], *({**int8, **changes} for changes in found[:1]), *found[1:]]


def for_gpu(present: Present, kind: str, batches: Iterable[Changes]) -> List[Candidate]:
    """Each of ``batches`` (what differs in an engine; {} is the present one) with the levers of a GPU."""
    off = {"cuda_graphs": False, **dict.fromkeys(_WAITS, False)}
    graphs = {**off, "cuda_graphs": True}
    waits = {**off, **dict.fromkeys(_WAITS, True)}
    both = {**waits, "cuda_graphs": True}
    few, some, many = ([(style, n) for n in counts] for style, counts in
                       ((graphs, (2, 1)), (both, (2, 3, 4, 1)), (waits, (2, 3, 4))))  # fmt: skip
    styles = {
        "latency": [*few, *some[:1], *some[3:], (waits, 1), (off, 1)],
        "throughput": [*some[:3], *many, (off, 3), (off, 4), *few[:1]],
        "balanced": [*some[:3], *few, *many[:2], (off, 3), *some[3:]],
    }[kind]
    queues: List[Changes] = [{}]
    if kind != "latency":
        queues += [_queue(200), _queue(1000)]
    ways = [
        {**style, "instances": {"gpu": count}, **queue}
        for queue, (style, count) in itertools.product(queues, styles)
    ]
    return _named(present, batches, ways)


_WAITS = ("busy_wait_events", "eager_batching", "output_copy_stream")


def for_cpu(present: Present, kind: str, cores: int) -> List[Candidate]:
    """Threads, instances, batches and delays for onnxruntime on ``cores``."""
    most = present.batch["max"]
    split = [(1, cores), (cores, 1), (2, max(1, cores // 2)), (max(1, cores // 2), 2)]
    unset = present.serving.get("cpu_threads")
    shapes = [
        # An equal share of the cores goes without saying.
        {"instances": {"cpu": n}, "cpu_threads": unset if not unset and t == max(1, cores // n) else t}
        for n, t in dict.fromkeys((n, t) for n, t in split if n * t <= max(2, cores))
    ]
    joined: List[Changes] = [_queue(0), _queue(1000), _queue(5000)]
    alone: List[Changes] = [{"dynamic_batching": False}]
    queues = [*alone, joined[0]] if kind == "latency" else [*joined[:1], *alone, *joined[1:]]
    ways = [{**shape, **queue} for shape, queue in _nearest_first(shapes, queues)]
    int8 = [dict(present.int8)] if present.int8 else []
    sizes = [{"batch": {"max": size}} for size in (32, 8) if size > most]
    return _named(present, [*int8, *sizes, {}] if kind != "latency" else [{}, *int8, *sizes], ways)


def with_settings(best: Sequence[Candidate]) -> List[Candidate]:
    """The best candidates again, each on a server with other settings."""
    return [
        Candidate(f"{candidate.name}s{number}", candidate.changes, dict(settings))
        for candidate in best
        for number, settings in enumerate(SERVER, 1)
    ]


def _queue(microseconds: int) -> Changes:
    return {"dynamic_batching": {"max_queue_delay_us": microseconds}}


def _named(present: Present, batches: Iterable[Changes], ways: Sequence[Changes]) -> List[Candidate]:
    """Every pair as a candidate, those near the heads of both lists first; none twice."""
    seen = {_key({})}
    found: List[Candidate] = []
    for batch, serving in _nearest_first(list(batches), ways):
        alone = serving.get("dynamic_batching") is False
        # Requests of one picture that are not joined never fill a larger batch.
        engine = {key: value for key, value in batch.items() if not (alone and key == "batch")}
        changes = present.differing({"serving": serving, **engine})
        if _key(changes) not in seen:
            seen.add(_key(changes))
            found.append(Candidate(f"c{len(found) + 1:02}", changes))
    return found


def _nearest_first(rows: Sequence[Changes], columns: Sequence[Changes]) -> List[Tuple[Changes, Changes]]:
    places = itertools.product(range(len(rows)), range(len(columns)))
    return [(rows[a], columns[b]) for a, b in sorted(places, key=lambda p: (p[0] + p[1], p[0]))]


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    found: Changes = {}
    for key, value in new.items():
        was = old.get(key)
        if isinstance(value, Mapping) and isinstance(was, Mapping):
            inner = _differing(was, value)
            if inner:
                found[key] = inner
        elif was != value and not (was is None and value is False):
            found[key] = value
    return found


def _key(changes: Changes) -> str:
    return json.dumps(changes, sort_keys=True)


def _leaves(changes: Mapping[str, Any], path: str = "") -> List[Tuple[str, Any]]:
    """Every value with its path; ``serving`` goes without saying."""
    found: List[Tuple[str, Any]] = []
    for key, value in changes.items():
        here = key if path in ("", "serving") else f"{path}.{key}"
        found += _leaves(value, here) if isinstance(value, Mapping) else [(here, value)]
    return found


def _word(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def present() -> Candidate:
    """What is live."""
    return Candidate(PRESENT)
