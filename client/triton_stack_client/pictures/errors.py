"""How the picture service refuses a request."""

from __future__ import annotations


class RefusalError(Exception):
    """An HTTP status, and why: what was found, what is allowed and what to do next."""

    def __init__(self, status: int, found: str, *, allowed: str = "", remedy: str = "") -> None:
        super().__init__(found)
        self.status = status
        self.found = found
        self.allowed = allowed
        self.remedy = remedy

    def __str__(self) -> str:
        allowed = f"; allowed: {self.allowed}" if self.allowed else ""
        return self.found + allowed + (f"; next: {self.remedy}" if self.remedy else "")
