"""What the servers did in the last while: Triton's own counters, and a probe for the p99.

Triton counts the sum of durations and no percentiles. The probe is one golden request to each server at
each look of the agent (AGENT_SECS), one after another and never two at once: at 5 s that is 0.2 a second.
A report that is written in between (a pull, a proof) looks too, at most once a second.
"""

from __future__ import annotations

import http.client
import json
import math
import re
import time
from collections import deque
from pathlib import Path
from typing import Any, Callable

import numpy as np
from ops.several.places import Place

from models_volume import golden, manifest
from models_volume.errors import VolumeError
from models_volume.layout import GOLDEN, Volume

_WINDOW = 120.0  # seconds that figures look back
_TIMEOUT = 5.0  # seconds for each answer
_LINE = re.compile(
    r"^nv_inference_request_(success|failure|duration_us)\{([^}]*)\} ([0-9.eE+]+)$", re.MULTILINE
)
_NAMES = ("success", "failure", "duration_us")
Counters = tuple[float, float, float]  # requests answered, requests failed, microseconds in all


class Window:
    """Figures of one model over the last two minutes; ``clock`` gives seconds that never go back.

    ``probe`` is the golden request of the release that is live, once it was read.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._last: dict[str, Counters] = {}
        self._grown: deque[tuple[float, Counters]] = deque()
        self._probes: deque[tuple[float, float]] = deque()
        self._version: int | None = None
        self.probe: tuple[int, bytes] | None = None

    def of(self, version: int | None) -> None:
        """Begin anew where another release is live: one's figures say nothing of the other."""
        if version != self._version:
            self._version, self._began, self.probe = version, self._clock(), None
            for old in (self._last, self._grown, self._probes):
                old.clear()

    def counted(self, server: str, now: Counters) -> None:
        """A look at a server's counters. The first one is where counting begins; a server that was started
        anew counts from zero."""
        before = self._last.get(server)
        self._last[server] = now
        if before is None:
            return
        if any(new < old for new, old in zip(now, before)):
            before = (0.0, 0.0, 0.0)
        a, b, c = (new - old for new, old in zip(now, before))
        self._grown.append((self._clock(), (a, b, c)))

    def probed(self, milliseconds: float) -> None:
        """How long a golden request took."""
        self._probes.append((self._clock(), milliseconds))

    def figures(self) -> dict[str, Any]:
        """As a report has them; a figure that nothing was measured for is None."""
        now = self._clock()
        for old in (self._grown, self._probes):
            while old and old[0][0] < now - _WINDOW:
                old.popleft()
        good, bad, micro = (sum(grown[i] for _, grown in self._grown) for i in range(3))
        times = sorted(ms for _, ms in self._probes)
        return {
            "requests": round(good + bad),
            "failures": round(bad),
            "mean_ms": round(micro / 1000 / good, 3) if good else None,
            "probes": len(times),
            "probe_p99_ms": round(times[math.ceil(0.99 * len(times)) - 1], 3) if times else None,
            "probe_slowest_ms": [round(ms, 3) for ms in times[-(10 + len(times) // 20) :]],
            "window_secs": round(min(_WINDOW, now - self._began), 1),
        }


def parse(text: str, model: str, version: int) -> Counters:
    """A version's counters in Prometheus text; zeros where it has none yet."""
    sums = dict.fromkeys(_NAMES, 0.0)
    for family, labels, value in _LINE.findall(text):
        if f'model="{model}"' in labels and f'version="{version}"' in labels:
            sums[family] += float(value)
    return sums["success"], sums["failure"], sums["duration_us"]


def look(window: Window, places: list[Place], models_dir: Path, model: str, version: int) -> None:
    """Count and probe on every server; one that does not answer is left out."""
    if window.probe is None:  # once a release: its golden samples may be many megabytes
        window.probe = _request(models_dir, model, version)
    body = window.probe
    for place in places:
        text = _ask(place.host, place.metrics, "GET", "/metrics", b"", {})
        if text is not None:
            window.counted(place.name, parse(text.decode("utf-8", "replace"), model, version))
        if body is None:
            continue
        began = time.monotonic()
        path = f"/v2/models/{model}/versions/{version}/infer"
        head = {"Inference-Header-Content-Length": str(body[0])}
        if _ask(place.host, place.http, "POST", path, body[1], head) is not None:
            window.probed((time.monotonic() - began) * 1000)


def _request(models_dir: Path, model: str, version: int) -> tuple[int, bytes] | None:
    """The smallest golden batch in Triton's binary form: the header's length, and all of it. None where the
    release has none that can be sent like that."""
    volume = Volume(models_dir)
    try:
        found = manifest.read(volume, model, version)
        inputs, _ = golden.load(volume.release(model, version) / GOLDEN)
        rows = {t.name: (t.dtype, inputs[t.name][: max(1, found.min_batch)]) for t in found.inputs}
    except (VolumeError, KeyError):
        return None
    if any(array.dtype.hasobject or array.dtype.kind in "SU" for _, array in rows.values()):
        return None
    data = {name: np.ascontiguousarray(array).tobytes() for name, (_, array) in rows.items()}
    header = {
        "inputs": [
            {
                "name": name,
                "datatype": dtype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(data[name])},
            }
            for name, (dtype, array) in rows.items()
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(header).encode()
    return len(text), text + b"".join(data.values())


def _ask(host: str, port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> bytes | None:
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        connection.request(method, path, body=body or None, headers=headers)
        answer = connection.getresponse()
        data = answer.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return data if answer.status == 200 else None
