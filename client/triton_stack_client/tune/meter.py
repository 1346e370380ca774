"""A meter: each line of JSON on standard input asks for one measurement, each line on standard output has it.

    {"ask": "look", "engine": "engine-8-32", "release": 1, "model": "c01", "version": 1,
     "grpc": "127.0.0.1:9001", "clients": 64, "window": 0.3}
        -> {"images_per_s": 2410.2, "p50": 12.1, "p95": 15.0, "p99": 17.9, "parts": {...}}      (ms)
    {"ask": "engine", "engine": "engine-8-32", "release": 1, "batch": 32}
        -> {"images_per_s": 21264.0, "p50": 1.6, ...}              (trtexec on the engine itself)
    whatever fails -> {"error": "..."}

It ends, with the perf_analyzer that it runs, when standard input does: whoever asked is gone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from triton_stack_client.bench.baseline import Trtexec
from triton_stack_client.bench.perf import PerfAnalyzer
from triton_stack_client.errors import ClientError
from triton_stack_client.verify import release
from triton_stack_client.verify.release import Release

_SECONDS = 3.0  # of trtexec on one batch size


def serve(program: str, libraries: str, volume: Path, nice: int) -> None:
    """Answer until standard input ends. Must lead its own process group, which it then kills."""
    os.nice(nice)
    questions: queue.Queue[str] = queue.Queue()
    with tempfile.TemporaryDirectory(prefix="tune-meter-") as work:
        threading.Thread(target=_listen, args=(questions, Path(work)), daemon=True).start()
        meter = _Meter(program, libraries, volume, Path(work))
        while True:
            try:
                answer = meter.answer(json.loads(questions.get()))
            except ClientError as e:
                answer = {"error": str(e)}
            print(json.dumps(answer), flush=True)


def _listen(questions: queue.Queue[str], work: Path) -> None:
    for line in sys.stdin:
        questions.put(line)
    shutil.rmtree(work, ignore_errors=True)
    os.killpg(os.getpgrp(), signal.SIGKILL)


class _Meter:
    def __init__(self, program: str, libraries: str, volume: Path, work: Path) -> None:
        self._program = program
        self._libraries = libraries
        self._volume = volume
        self._work = work
        self._perf: dict[tuple[str, str, str], PerfAnalyzer] = {}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        chosen = release.read(self._volume, question["engine"], question["release"])
        if question["ask"] == "engine":
            return self._engine(chosen, question["batch"])
        key = (question["engine"], question["model"], question["grpc"])
        if key not in self._perf:
            self._perf[key] = self._analyzer(chosen, question)
        point = self._perf[key].windows("grpc", 1, question["clients"], window=question["window"])
        names = ("images_per_s", "p50", "p95", "p99", "parts")
        return {name: getattr(point, name) for name in names}

    def _analyzer(self, chosen: Release, question: dict[str, Any]) -> PerfAnalyzer:
        folder = self._work / str(len(self._perf))
        folder.mkdir()
        served = dataclasses.replace(chosen, model=question["model"], version=question["version"])
        return PerfAnalyzer(self._program, self._libraries, served, {"grpc": question["grpc"]}, folder)

    def _engine(self, chosen: Release, batch: int) -> dict[str, Any]:
        # With a CUDA graph: a host that others use, too, then spoils less of what an engine is worth.
        local = Trtexec(os.environ.get("TRTEXEC") or "trtexec", chosen, graph=True)
        local.round(batch, _SECONDS)
        return dataclasses.asdict(local.figure(batch))
