"""What the client refuses or fails on.

    ClientError
    |- ReleaseError     the models volume holds no live release that can be read
    `- ServerError      the server does not answer, or refuses a request that it should take
"""

from __future__ import annotations


class ClientError(Exception):
    """A failure with a reason and, where there is one, the next thing to do."""

    def __init__(self, found: str, *, remedy: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.found}\n  next: {self.remedy}" if self.remedy else self.found


class ReleaseError(ClientError):
    """A release cannot be read."""


class ServerError(ClientError):
    """The server did not answer as it should; ``refused`` is true when it answered with an error."""

    def __init__(self, found: str, *, remedy: str = "", refused: bool = False) -> None:
        super().__init__(found, remedy=remedy)
        self.refused = refused
