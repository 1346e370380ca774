"""The one error of this package."""

from __future__ import annotations


class GatewayError(Exception):
    """Why the gateway cannot run or a key cannot be changed: found, expected, and what to do next."""

    def __init__(self, found: str, *, remedy: str = "") -> None:
        super().__init__(f"{found}\n  next: {remedy}" if remedy else found)
        self.found = found
        self.remedy = remedy
