"""The one error of the scripts: what was found, what is right, the tool's own words, what to do next."""

from __future__ import annotations

from typing import Any, Dict, Sequence


class OpsError(Exception):
    """A failure with a remedy.

    Args:
        found: what is wrong, in one line that stands alone.
        expected: what would have been right.
        remedy: the next command to run or thing to change.
        details: more lines, such as a log's end.
        kind: the error's class, where it comes from the builder or the client (SpecError, ...).
        mistakes: of a refused spec, each with its path, found and expected.
    """

    def __init__(
        self,
        found: str,
        *,
        expected: str = "",
        remedy: str = "",
        details: str = "",
        kind: str = "OpsError",
        mistakes: Sequence[Dict[str, str]] = (),
    ) -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected
        self.remedy = remedy
        self.details = details
        self.kind = kind
        self.mistakes = list(mistakes)

    @classmethod
    def from_answer(cls, error: Dict[str, Any]) -> OpsError:
        """The builder's or the client's error, as their ``--json`` prints it."""
        texts = {name: str(error.get(name) or "") for name in ("found", "expected", "remedy", "details")}
        kind = str(error.get("kind") or "OpsError")
        return cls(**texts, kind=kind, mistakes=error.get("mistakes") or ())

    def facts(self) -> Dict[str, Any]:
        """The error as data: what ``--json`` prints under "error"."""
        names = ("kind", "found", "expected", "remedy", "details")
        facts = {name: getattr(self, name) for name in names}
        return {**facts, "mistakes": self.mistakes} if self.mistakes else facts

    def __str__(self) -> str:
        lines = [self.found]
        if self.expected:
            lines.append(f"  expected: {self.expected}")
        if self.details:
            lines.extend(f"  | {line}" for line in self.details.splitlines())
        if self.remedy:
            lines.append(f"  next: {self.remedy}")
        return "\n".join(lines)
