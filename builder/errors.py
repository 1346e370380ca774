"""Everything the builder refuses or fails on.

    BuilderError
    |- SpecError        the spec file says something impossible
    |- SourceError      the model, its weights or its hash are not what the spec names
    |- ExportError      TensorFlow -> ONNX failed, or gave another interface than the spec's
    |- EngineError      the engine was not built, does not load, or cannot run here
    |- ParityError      the engine does not agree with the source model
    `- ReleaseError     the models volume cannot be changed as asked
       `- LockedError   somebody else is changing it

Each carries what was found, what was expected and what to do next; ``cli.main`` alone prints them.
"""

from __future__ import annotations


class BuilderError(Exception):
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

    def __str__(self) -> str:
        lines = [self.found]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.details:
            lines.extend(f"  | {line}" for line in self.details.splitlines())
        if self.remedy:
            lines.append(f"  next: {self.remedy}")
        return "\n".join(lines)


class SpecError(BuilderError):
    """A spec is refused; the message starts with the file and the path in it."""


class SourceError(BuilderError):
    """The source model, its weights or its golden samples are missing or are not the named ones."""


class ExportError(BuilderError):
    """The exported ONNX is invalid or does not have the spec's interface."""


class EngineError(BuilderError):
    """The engine could not be built, loaded or run."""


class ParityError(BuilderError):
    """The engine's answers are outside the spec's tolerances."""


class ReleaseError(BuilderError):
    """A release cannot be published, activated or removed."""


class LockedError(ReleaseError):
    """Another process holds the lock of the models volume."""
