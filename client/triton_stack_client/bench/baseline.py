"""The same engine without a server: onnxruntime in a process of ours, or trtexec on a GPU."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, replace
from statistics import median
from typing import Protocol

import numpy as np

from triton_stack_client.bench.baseline_process import BaselineProcess
from triton_stack_client.errors import ClientError
from triton_stack_client.verify.release import Release

_LATENCY = re.compile(
    r"\] Latency: .*median = ([\d.]+) ms, .*percentile\(95%\) = ([\d.]+) ms, percentile\(99%\) = ([\d.]+) ms"
)
_THROUGHPUT = re.compile(r"Throughput: ([\d.]+) qps")


@dataclass(frozen=True)
class Figure:
    """Local inference of ``batch`` images at once, one after another; latencies in ms."""

    batch: int
    images_per_s: float
    p50: float
    p99: float
    command: list[str]
    p95: float = 0.0  # not in runs from before it was measured
    graph: bool = False  # whether trtexec replayed a CUDA graph


class Baseline(Protocol):
    """Local inference: measured a little before each served point, so that both see the same machine."""

    name: str
    version: str

    def round(self, batch: int, seconds: float) -> None:
        """Measure for about ``seconds``; raises ClientError."""

    def figure(self, batch: int) -> Figure:
        """All rounds of that batch size together."""


class OnnxRuntime:
    """onnxruntime in the server's environment, with the server's threads."""

    name = "onnxruntime"

    def __init__(self, local: BaselineProcess) -> None:
        self.local = local
        self.version = f"{local.version}, {local.threads} threads"
        self._seconds: dict[int, list[float]] = {}

    def round(self, batch: int, seconds: float) -> None:
        """See ``Baseline``."""
        known = self._seconds.setdefault(batch, [])
        once = float(np.median(known)) if known else self.local.run(batch, 3)[-1]
        known += self.local.run(batch, max(3, round(seconds / once)))

    def figure(self, batch: int) -> Figure:
        """See ``Baseline``."""
        seconds = np.array(self._seconds[batch])
        p50, p95, p99 = (float(p) * 1e3 for p in np.percentile(seconds, (50, 95, 99)))
        rate = float(batch * len(seconds) / seconds.sum())
        return Figure(batch, rate, p50, p99, self.local.command, p95)


class Trtexec:
    """trtexec on the release's own plan; host to host, like a request.

    Args:
        program: on PATH; with a stack in containers ./scripts/* put one there that runs in a container.
        graph: capture a CUDA graph, and replay it.
    """

    name = "trtexec"

    def __init__(self, program: str, release: Release, *, graph: bool = False) -> None:
        self._program = program
        self._graph = graph
        self._release = release
        self._inputs = release.inputs
        self._plan = str(release.folder / "model" / str(release.version) / release.engine["file"])
        self._found: dict[int, list[Figure]] = {}
        self.version = str(release.engine["version"]) + (", CUDA graph" if graph else "")

    def round(self, batch: int, seconds: float) -> None:
        """Once for each batch size: a start of trtexec takes seconds."""
        if batch not in self._found:
            self.turn(batch, max(3, seconds))

    def turn(self, batch: int, seconds: float) -> Figure:
        """Measure once more, for ``seconds`` of whole ones; raises ClientError."""
        shapes = ",".join(f"{t.name}:{'x'.join(map(str, (batch, *t.dims)))}" for t in self._inputs)
        duration = max(1, round(seconds))
        command = [
            self._program,
            f"--loadEngine={self._plan}",
            f"--shapes={shapes}",
            f"--duration={duration}",
            *(["--useCudaGraph"] if self._graph else []),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        except (OSError, subprocess.TimeoutExpired) as e:
            raise ClientError(
                f"the local baseline cannot be run: {e}",
                remedy="on a GPU it is trtexec: put it on PATH, or name it in TRTEXEC",
            ) from e
        found = replace(parse_trtexec(done.stdout, batch, command), graph=self._graph)
        self._found.setdefault(batch, []).append(found)
        return found

    def figure(self, batch: int) -> Figure:
        """The median of the turns, figure by figure."""
        turns = self._found[batch]
        names = ("images_per_s", "p50", "p95", "p99")
        return replace(turns[-1], **{n: median(getattr(f, n) for f in turns) for n in names})

    def without_graph(self) -> Trtexec:
        """The same engine, enqueued anew for each inference."""
        return Trtexec(self._program, self._release)

    def figures(self) -> list[Figure]:
        """Of every batch size."""
        return [self.figure(batch) for batch in sorted(self._found)]


def parse_trtexec(text: str, batch: int, command: list[str]) -> Figure:
    """A figure out of trtexec's output; raises ClientError when it did not pass."""
    latency, throughput = _LATENCY.search(text), _THROUGHPUT.search(text)
    if not latency or not throughput or "&&&& PASSED" not in text:
        words = " ".join(text.strip().splitlines()[-3:])
        raise ClientError(f"the local baseline failed: {' '.join(command)}: {words}")
    p50, p95, p99 = map(float, latency.groups())
    return Figure(batch, batch * float(throughput[1]), p50, p99, command, p95)
