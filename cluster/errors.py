"""What the cluster's commands refuse or fail on: found, expected, remedy, like the builder's errors."""

from __future__ import annotations

from typing import Any


class ClusterError(Exception):
    """A failure with a reason and a remedy.

    Args:
        found: what is wrong, in one line that stands alone.
        expected: what would have been right.
        remedy: the next command to run or thing to change.
        details: more lines (a program's own words), printed below.
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
