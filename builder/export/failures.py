"""What went wrong in an export, in one line: the op, the layer; the libraries' own words go to a log file."""

from __future__ import annotations

import contextlib
import logging
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Optional

from builder.errors import BuilderError, ExportError, SourceError
from builder.export.source_model import SAVE_ANEW
from builder.spec.model import Source

_LOGGERS = ("tensorflow", "tf2onnx")
# Keras 2 and 3, .keras and .h5 each say it in their own way.
_CUSTOM = re.compile(
    r"(?:Unknown (?:layer|object): |Could not locate (?:class|function) |object of type )['\"`](\w+)['\"`]"
)


class _Ops(logging.Handler):
    """Notes the ops that tf2onnx calls unsupported; it goes on and makes a model that nothing can run."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: dict[str, str] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """tf2onnx: "Tensorflow op [%s: %s] is not supported", node's name, op."""
        args = record.args
        if "is not supported" in str(record.msg) and isinstance(args, tuple) and len(args) == 2:
            self.found.setdefault(str(args[1]), str(args[0]))


class Failures:
    """Turns what an export's libraries raise into one line with a next step.

    A context manager around the whole export. The log file has what they logged and, after a failure, the
    traceback; after success it is gone.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._ops = _Ops()
        self._was: list[tuple[logging.Logger, bool, list[logging.Handler]]] = []

    def __enter__(self) -> Failures:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._file = logging.FileHandler(self._log, "w", "utf-8")
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            self._was.append((logger, logger.propagate, logger.handlers))
            logger.handlers, logger.propagate = [self._file, self._ops], False
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], value: Optional[BaseException], tb: Optional[TracebackType]
    ) -> None:
        for logger, propagate, handlers in self._was:
            logger.handlers, logger.propagate = handlers, propagate
        self._file.close()
        if value is None:
            self._log.unlink()
        else:
            with self._log.open("a", encoding="utf-8") as f:
                traceback.print_exception(kind, value, tb, file=f)

    @contextlib.contextmanager
    def of_loading(self, source: Source) -> Iterator[None]:
        """Loading the source model: SourceError for whatever Keras and TensorFlow raise."""
        try:
            yield
        except BuilderError:
            raise
        except Exception as e:  # Keras raises plain Exception, ValueError, OSError, TypeError
            raise self._loading(source, str(e)) from e

    def _loading(self, source: Source, reason: str) -> SourceError:
        what = f"{source.kind} {source.name}"
        custom = _CUSTOM.search(reason)
        if custom is not None:
            return SourceError(
                f"{what}: has the custom layer {custom.group(1)}, whose code is not in the file",
                expected="layers of Keras itself",
                remedy=f"{SAVE_ANEW}; {self._where}",
            )
        if "`Lambda` layer" in reason:
            return SourceError(
                f"{what}: has a Lambda layer, which is Python code inside the file; it is not run",
                expected="layers of Keras itself",
                remedy=f"{SAVE_ANEW}; {self._where}",
            )
        return SourceError(
            f"{what}: cannot be loaded: {_line(reason)}",
            expected="a file as Keras saved it"
            if source.kind == "keras"
            else "a model as TensorFlow saved it",
            remedy=f"load it where it was made, to see whether it is whole; {self._where}",
        )

    @contextlib.contextmanager
    def of_conversion(self) -> Iterator[None]:
        """tf2onnx at work: ExportError that names the op where there is one it does not know."""
        try:
            yield
        except BuilderError:
            raise
        except Exception as e:  # tf2onnx and TensorFlow raise whatever they met
            self.raise_unknown_ops(e)
            raise ExportError(
                f"tf2onnx could not convert the model: {_line(str(e))}",
                expected="a model of which every op has a counterpart in ONNX",
                remedy=f"try another opset in the spec (13 to 17); {self._where}",
            ) from e

    def raise_unknown_ops(self, cause: Optional[BaseException] = None) -> None:
        """Raise ExportError when tf2onnx met an op that it does not know."""
        if self._ops.found:
            ops = ", ".join(f"{op} ({node})" for op, node in self._ops.found.items())
            raise ExportError(
                f"tf2onnx does not know the op{'s' if len(self._ops.found) > 1 else ''} {ops}",
                expected="ops that ONNX has (tf2onnx's support_status.md lists them)",
                remedy=f"use other ops in the model, or try a higher opset in the spec; {self._where}",
            ) from cause

    @contextlib.contextmanager
    def of_running(self) -> Iterator[None]:
        """The source model on the golden samples."""
        try:
            yield
        except BuilderError:
            raise
        except Exception as e:
            raise ExportError(
                f"the source model fails on its golden samples: {_line(str(e))}",
                expected="inputs as the model was trained on",
                remedy=f"say under samples: in the spec what its inputs are like; {self._where}",
            ) from e

    @property
    def _where(self) -> str:
        return f"the traceback is in {self._log}"


def _line(reason: str) -> str:
    """The part of an exception's text that says most, as one line."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("Exception encountered:")), None)
    line = told or (lines[0] if lines else "no reason given")
    return line if len(line) <= 200 else f"{line[:197]}..."
