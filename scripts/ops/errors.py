"""The one error of the scripts: what was found, the tool's own words, what to do next."""

from __future__ import annotations


class OpsError(Exception):
    """A failure with a remedy.

    Args:
        found: what is wrong, in one line that stands alone.
        remedy: the next command to run or thing to change.
        details: more lines, such as a log's end.
    """

    def __init__(self, found: str, *, remedy: str = "", details: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.remedy = remedy
        self.details = details

    def __str__(self) -> str:
        lines = [self.found]
        if self.details:
            lines.extend(f"  | {line}" for line in self.details.splitlines())
        if self.remedy:
            lines.append(f"  next: {self.remedy}")
        return "\n".join(lines)
