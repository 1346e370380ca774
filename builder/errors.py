"""Everything the builder refuses or fails on.

    BuilderError
    |- SpecError        the spec file says something impossible
    |- SourceError      the model, its weights or its hash are not what the spec names
    |- ExportError      TensorFlow -> ONNX failed, or gave another interface than the spec's
    |- EngineError      the engine was not built, does not load, or cannot run here
    |  `- CrashError    its tool was ended by a signal
    |- QuantizationError  an INT8 model cannot be made, or is not good enough
    |- ParityError      the engine does not agree with the source model
    |- EvaluationError  it is not accurate enough on labelled data, or the data cannot tell
    `- ReleaseError     the models volume cannot be changed as asked
       `- LockedError   somebody else is changing it

Each carries what was found, what was expected and what to do next (``RemedyError``, which the cluster's
errors are, too); ``cli.main`` alone prints them.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class RemedyError(Exception):
    """A failure with a reason and a remedy.

    Args:
        found: what is wrong, in one line that stands alone.
        expected: what would have been right.
        remedy: the next command to run or thing to change.
        details: more lines (a tool's own words), printed below.
    """

    def __init__(self, found: str, *, expected: str = "", remedy: str = "", details: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected
        self.remedy = remedy
        self.details = details

    def facts(self) -> dict[str, Any]:
        """The error as data: what ``--json`` prints under "error"."""
        return {
            "kind": type(self).__name__,
            "found": self.found,
            "expected": self.expected,
            "remedy": self.remedy,
            "details": self.details,
        }

    def __str__(self) -> str:
        lines = [self.found]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.details:
            lines.extend(f"  | {line}" for line in self.details.splitlines())
        if self.remedy:
            lines.append(f"  next: {self.remedy}")
        return "\n".join(lines)


class BuilderError(RemedyError):
    """What the builder refuses or fails on."""


@dataclass(frozen=True)
class Mistake:
    """One thing wrong in a spec.

    Attributes:
        path: its place in the file, ``inputs[0].dims[1]``; empty for the whole document.
        found: what is there, in words (``found -1``, ``missing``, ``unknown key``).
        expected: what is allowed.
    """

    path: str
    found: str
    expected: str


class SpecError(BuilderError):
    """A spec is refused.

    With one mistake, ``found`` is ``FILE: PATH: what is there`` and ``expected`` what is allowed. With
    several, ``found`` counts them and ``details`` lists each with its place and what is allowed. Either way
    ``mistakes`` (and "mistakes" in the JSON) has them as data: path, found, expected.
    """

    mistakes: tuple[dict[str, str], ...] = ()

    @classmethod
    def of(cls, file: Path, mistakes: list[Mistake]) -> SpecError:
        """All mistakes of one file, at least one, in the order of the file's reference."""
        first = mistakes[0]
        if len(mistakes) == 1:
            where = f"{file}: {first.path}" if first.path else f"{file}"
            error = cls(f"{where}: {first.found}", expected=first.expected)
        else:
            lines = [f"{m.path}: {m.found}\n  expected: {m.expected}" for m in mistakes]
            error = cls(f"{file}: {len(mistakes)} mistakes", details="\n".join(lines))
        error.mistakes = tuple(dataclasses.asdict(m) for m in mistakes)
        return error

    def facts(self) -> dict[str, Any]:
        """The error as data, with its mistakes."""
        return {**super().facts(), **({"mistakes": list(self.mistakes)} if self.mistakes else {})}


class SourceError(BuilderError):
    """The source model, its weights or its golden samples are missing or are not the named ones."""


class ExportError(BuilderError):
    """The exported ONNX is invalid or does not have the spec's interface."""


class EngineError(BuilderError):
    """The engine could not be built, loaded or run."""


class QuantizationError(BuilderError):
    """The model cannot be quantized with this data, or loses too much by it."""


class CrashError(EngineError):
    """The engine's tool was ended by a signal: it crashed, or the system ended it."""


class ParityError(BuilderError):
    """The engine's answers are outside the spec's tolerances."""


class EvaluationError(BuilderError):
    """The accuracy on labelled data is outside the spec's bounds, or the data cannot tell."""


class ReleaseError(BuilderError):
    """A release cannot be published, activated or removed."""


class LockedError(ReleaseError):
    """Another process holds the lock of the models volume."""
