"""NVIDIA's perf_analyzer 2.47: its command line, and what it writes.

It writes figures only when they were stable by its own criterion (three windows within 10 % of each
other). Where they never are, the same point is measured once more over a fixed number of requests and
marked unstable.
"""

from __future__ import annotations

import csv
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from triton_stack_client.errors import ClientError
from triton_stack_client.transport import direct
from triton_stack_client.verify.release import Release

# Column of its CSV -> our name for where a request's time goes, in order.
PARTS = {
    "Client Send": "client send",
    "Network+Server Send/Recv": "network",
    "Server Queue": "queue",
    "Server Compute Input": "input",
    "Server Compute Infer": "compute",
    "Server Compute Output": "output",
    "Client Recv": "client receive",
}
_MOST = 2000  # requests of an unstable point
_WINDOWS = 12  # at most, of a short look
# Of a way, behind the protocol: perf_analyzer's name of the shared memory.
_MEMORY = {"shm": "system", "cuda": "cuda"}
_UNSTABLE = 2  # its exit code, for this and for other failures


@dataclass(frozen=True)
class Point:
    """One measured point. Latencies in ms, by request of ``batch`` images; ``parts`` are means in ms."""

    way: str
    batch: int
    concurrency: int
    stable: bool
    images_per_s: float
    p50: float
    p90: float
    p95: float
    p99: float
    parts: dict[str, float]
    command: list[str]


class PerfAnalyzer:
    """perf_analyzer on one release.

    Args:
        program: the binary.
        libraries: a folder for LD_LIBRARY_PATH: libb64 and libcudart, which it wants and most machines
            lack.
        urls: host:port of each protocol.
        work: a folder for its files.

    Attributes:
        version: as it says itself.

    Raises:
        ClientError: it does not start, with the loader's words.
    """

    def __init__(
        self, program: str, libraries: str, release: Release, urls: dict[str, str], work: Path
    ) -> None:
        self._program = program
        self._release = release
        self._urls = urls
        self._work = work
        path = os.pathsep.join(filter(None, [libraries, os.environ.get("LD_LIBRARY_PATH")]))
        self._env = {**direct.environment(os.environ), "LD_LIBRARY_PATH": path}
        self.version = _version(self._run([program, "--version"]))
        # One golden sample as it is, a file for each input: random bytes are no valid index or FP16.
        inputs, _ = release.golden()
        self._data = work / "inputs"
        self._data.mkdir(exist_ok=True)
        for name, array in inputs.items():
            (self._data / name).write_bytes(array[0].tobytes())

    def measure(
        self, way: str, batch: int, concurrency: int, *, window: float, expected: float, trials: int
    ) -> Point:
        """Measure one point.

        Args:
            window: seconds of one of its windows, of which it may take ``trials``.
            expected: seconds that one request may take, to choose the number for an unstable point.

        Raises:
            ClientError: it failed, with its own last words.
        """
        options = ["-p", str(round(window * 1000)), "-s", "10", "-r", str(trials)]
        point = self._point(way, batch, concurrency, options, stable=True)
        if point is None:
            point = self.count(
                way, batch, concurrency, requests=min(max(20, round(2 * window / expected)), _MOST)
            )
        return point

    def count(self, way: str, batch: int, concurrency: int, *, requests: int) -> Point:
        """Measure a fixed number of requests: never called stable. Raises ClientError."""
        requests = -(-requests // concurrency) * concurrency
        point = self._point(way, batch, concurrency, ["--request-count", str(requests)], stable=False)
        assert point is not None
        return point

    def windows(self, way: str, batch: int, concurrency: int, *, window: float) -> Point:
        """Measure over three windows of ``window`` seconds, whatever they show; raises ClientError.

        For short looks that are compared with each other: how far they differ says how far to trust them.
        perf_analyzer takes the first three in a row in which requests ended. Hundreds of clients may take
        seconds to connect (seen on a 16-core machine: 3 s for 256), so it gets more windows than three.
        """
        options = ["-p", str(max(1, round(window * 1000))), "-s", "999", "-r", str(_WINDOWS)]
        point = self._point(way, batch, concurrency, options, stable=True)
        if point is None:
            raise ClientError(
                f"perf_analyzer saw no {concurrency} requests end within {_WINDOWS * window:.1f} s"
            )
        return point

    def _point(
        self, way: str, batch: int, concurrency: int, options: list[str], *, stable: bool
    ) -> Point | None:
        out = self._work / "point.csv"
        out.unlink(missing_ok=True)
        protocol, _, memory = way.partition("+")
        command = [
            self._program,
            "-m", self._release.model, "-x", str(self._release.version),
            "-i", protocol, "-u", self._urls[protocol],
            "-b", str(batch), "--concurrency-range", f"{concurrency}:{concurrency}",
            "--input-data", str(self._data), "-f", str(out), "--verbose-csv", *options,
        ]  # fmt: skip
        if memory:
            size = max(t.nbytes(batch) for t in self._release.outputs)
            command += ["--shared-memory", _MEMORY[memory], "--output-shared-memory-size", str(size)]
        done = self._run(command)
        if stable and done.returncode == _UNSTABLE and "stable measurement" in done.stdout + done.stderr:
            return None
        if done.returncode or not out.is_file():
            words = (done.stdout + done.stderr).strip().splitlines()[-3:]
            raise ClientError(
                f"perf_analyzer failed ({done.returncode}): {' '.join(words)}\n  {' '.join(command)}"
            )
        return parse(out.read_text("utf-8"), way, batch, command, stable=stable)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                command, env=self._env, capture_output=True, text=True, timeout=900, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise ClientError(
                f"perf_analyzer cannot be run: {e}", remedy="./scripts/bench installs it"
            ) from e


def _version(done: subprocess.CompletedProcess[str]) -> str:
    words = (done.stdout + done.stderr).strip()
    if done.returncode:
        raise ClientError(
            f"perf_analyzer does not start: {words[-300:]}", remedy="./scripts/bench installs it"
        )
    return words.splitlines()[-1].split(" (")[0]


def parse(text: str, way: str, batch: int, command: list[str], *, stable: bool) -> Point:
    """A point out of perf_analyzer's CSV of one row; raises ClientError when it is not one."""
    try:
        row = next(csv.DictReader(text.splitlines()))
        concurrency, rate = int(row["Concurrency"]), float(row["Inferences/Second"])
        if not stable:
            # Over a fixed number of requests it divides by whole seconds. Every client always has one request
            # under way, so the mean latency says it exactly.
            rate = concurrency * batch * 1e6 / float(row["Avg latency"])
        return Point(
            way=way,
            batch=batch,
            concurrency=concurrency,
            stable=stable,
            images_per_s=rate,
            p50=float(row["p50 latency"]) / 1e3,
            p90=float(row["p90 latency"]) / 1e3,
            p95=float(row["p95 latency"]) / 1e3,
            p99=float(row["p99 latency"]) / 1e3,
            parts={name: float(row[column]) / 1e3 for column, name in PARTS.items()},
            command=command,
        )
    except (StopIteration, KeyError, ValueError) as e:
        raise ClientError(f"perf_analyzer's CSV cannot be read: {type(e).__name__} {e}: {text[:200]}") from e
