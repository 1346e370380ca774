"""The GPU engine: trtexec builds the plan and runs it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import numpy as np

from builder.engine import LOG, Arrays, Built, Engine, gpu, logged_process, timing_cache, trtexec
from builder.errors import CrashError, EngineError
from builder.export import onnx_model
from builder.spec.model import Spec

# Where NVIDIA's packages and images put it, for the shells that do not have it on PATH.
_PLACES = ("/opt/tensorrt/bin/trtexec", "/usr/src/tensorrt/bin/trtexec")

_LIMIT = 3600  # seconds, where nobody sets BUILD_SECS

_Show = Callable[[str], bool]


class TensorRT(Engine):
    """A plan made by trtexec for the GPU it runs on."""

    name = "tensorrt"
    filename = "model.plan"

    def __init__(self, binary: str, known: trtexec.Trtexec, timing_caches: Optional[Path] = None) -> None:
        self._binary = binary
        self._known = known
        self._timing_caches = timing_caches
        self._formats: List[str] = []  # of the last build
        # TensorRT 8.5 and 8.6 parse up to op set 17 (their release notes); later ones say so themselves.
        self.max_opset: Optional[int] = 17 if known.version.startswith("8.") else None

    @classmethod
    def find(cls, timing_caches: Optional[Path] = None) -> TensorRT:
        """The trtexec named by $TRTEXEC, on PATH, or where NVIDIA puts it; raises EngineError without one."""
        wanted = os.environ.get("TRTEXEC") or "trtexec"
        found = shutil.which(wanted) or next((p for p in _PLACES if os.access(p, os.X_OK)), None)
        if found is None:
            raise EngineError(
                f"{wanted} was not found",
                expected="trtexec on PATH, or its path in TRTEXEC",
                remedy="use the image nvcr.io/nvidia/tensorrt:22.11-py3, or --device cpu",
            )
        binary = str(Path(found).absolute())  # it is run in other folders than this one
        try:
            done = subprocess.run(
                [binary, "--help"],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise EngineError(f"{binary} --help did not answer: {e}") from e
        return cls(binary, trtexec.parse_help(done.stdout), timing_caches)

    def identity(self) -> Dict[str, Any]:
        """Name, TensorRT's version and the GPU: a plan loads only where both are the same."""
        return {"name": self.name, "version": self._known.version, "gpu": gpu.detect()}

    def recipe(self, spec: Spec, onnx: Path) -> List[str]:
        """trtexec's command line, wherever the binary and the files lie."""
        order = onnx_model.order(onnx)
        return trtexec.build_argv(
            "trtexec", spec, self._known, order, onnx="model.onnx", engine=self.filename
        )

    def build(self, spec: Spec, onnx: Path, engine: Path, work: Path) -> Built:
        """Run trtexec (most of a minute for ResNet50 on an H200).

        The plan is written in ``work`` and renamed: trtexec writes in place, before it is sure of success.
        """
        began = time.monotonic()
        plan = work / self.filename
        order = onnx_model.order(onnx)
        self._formats = trtexec.io_formats(spec, order) if self._known.typed_formats else []
        timings = timing_cache.TimingCache(self._timing_caches, self.identity(), work)

        def run(cache: str) -> Tuple[List[str], str]:
            argv = trtexec.build_argv(
                self._binary,
                spec,
                self._known,
                order,
                onnx=_relative(onnx, work),
                engine=plan.name,
                timing_cache=cache,
            )
            return argv, self._run(argv, work, work / LOG, "the engine was not built", show=_Options().news)

        argv, text = timings.around(run)
        if not plan.is_file() or plan.stat().st_size == 0:
            raise EngineError("trtexec reported success and wrote no engine", remedy=_reproduce(work, argv))
        plan.replace(engine)
        identity = self.identity()
        identity["version"] = trtexec.version(text) or identity["version"]
        device = trtexec.device(text)
        if device is not None:
            identity["gpu"] = {**(identity["gpu"] or {}), **device}
        return Built(argv, time.monotonic() - began, identity)

    def run(self, spec: Spec, engine: Path, inputs: Arrays, work: Path) -> Arrays:
        """Load the plan and run one batch: ``--loadInputs``, ``--exportOutput``."""
        batch = len(next(iter(inputs.values())))
        folder = work / f"batch{batch}"  # stays where it is after a failure, for the command in the error
        folder.mkdir(exist_ok=True)
        files: Dict[str, str] = {}
        for number, tensor in enumerate(spec.inputs):
            # trtexec reads the engine's own dtype and never looks at the size: a float32 file for an
            # FP16 input passes, with wrong answers.
            array = np.ascontiguousarray(inputs[tensor.name])
            if (
                array.dtype != tensor.dtype.numpy
                or array.shape[:1] != (batch,)
                or not tensor.takes(array.shape[1:])
            ):
                raise EngineError(
                    f"input {tensor.name} is {array.dtype} {list(array.shape)}",
                    expected=f"{tensor.dtype.numpy} {[batch, *tensor.dims]}",
                )
            files[tensor.name] = f"input{number}.dat"
            array.tofile(str(folder / files[tensor.name]))
        output = folder / "output.json"
        argv = trtexec.run_argv(
            self._binary,
            spec,
            engine=_relative(engine, folder),
            batch=batch,
            inputs=files,
            output=output.name,
            formats=self._formats,
            dims={name: array.shape[1:] for name, array in inputs.items()},
        )
        self._run(argv, folder, work / LOG, f"the engine does not run at batch {batch}", show=_nothing)
        if not output.is_file():
            raise EngineError("trtexec reported success and wrote no output", remedy=_reproduce(folder, argv))
        answers = trtexec.parse_output(output.read_text("utf-8"), spec, batch)
        shutil.rmtree(folder)
        return answers

    def _run(self, argv: List[str], folder: Path, log: Path, failure: str, *, show: _Show) -> str:
        start = log.stat().st_size if log.exists() else 0
        limit = float(os.environ.get("BUILD_SECS") or _LIMIT)
        try:
            code = logged_process.run(argv, cwd=folder, log=log, show=show, limit=limit)
        except TimeoutError as e:
            raise EngineError(
                f"trtexec did not end within {limit:.0f} s, and was stopped",
                expected="an engine in that time (BUILD_SECS)",
                details=f"its output is in {log}",
                remedy=f"a larger BUILD_SECS; {_reproduce(folder, argv)}",
            ) from e
        with log.open("rb") as f:
            f.seek(start)
            text = f.read().decode("utf-8", "replace")
        if not trtexec.passed(text, code):
            kind = CrashError if code < 0 else EngineError
            raise kind(
                f"{failure} (trtexec exit code {code})",
                details=trtexec.errors(text),
                remedy=_reproduce(folder, argv),
            )
        return text


def _relative(path: Path, folder: Path) -> str:
    """``path`` seen from ``folder``: trtexec splits arguments at commas and colons, which a user's
    folders may hold and ours do not."""
    return os.path.relpath(str(path.resolve()), str(folder.resolve()))


def _reproduce(folder: Path, argv: List[str]) -> str:
    return f"to see it again: cd {shlex.quote(str(folder))} && {shlex.join(argv)}"


def _nothing(_line: str) -> bool:
    return False


class _Options:
    """Which lines of a build are news: not the page of options that trtexec prints first."""

    def __init__(self) -> None:
        self._past = False

    def news(self, line: str) -> bool:
        if "=== Device Information ===" in line:
            self._past = True
        return bool(line.strip()) and (self._past or "[E]" in line or line.startswith("&&&&"))
