"""What the client refuses or fails on.

ClientError
|- ReleaseError     the models volume holds no live release that can be read
|- ContractError    an array, or a model's contract, is not what the call needs
|- PictureError     a file cannot be read as a picture
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


class ContractError(ClientError):
    """What was given does not fit the model, or the model does not fit the task."""


class PictureError(ClientError):
    """A file cannot be read as a picture."""


class ServerError(ClientError):
    """The server did not answer as it should.

    ``refused`` is true when it answered with an error; ``again`` when it has not taken the request, so
    that asking again is safe and may help.
    """

    def __init__(self, found: str, *, remedy: str = "", refused: bool = False, again: bool = False) -> None:
        super().__init__(found, remedy=remedy)
        self.refused = refused
        self.again = again
