"""What the client refuses or fails on.

ClientError
|- ReleaseError     the models volume holds no live release that can be read
|- ContractError    an array, or a model's contract, is not what the call needs
|- PictureError     a file cannot be read as a picture
`- ServerError      the server does not answer, or refuses a request that it should take
"""

from __future__ import annotations


class ClientError(Exception):
    """A failure: what was found and, where there is one, what was expected and the next thing to do."""

    def __init__(self, found: str, *, expected: str = "", remedy: str = "", details: str = "") -> None:
        super().__init__(found)
        self.found = found
        self.expected = expected
        self.remedy = remedy
        self.details = details

    def facts(self) -> dict[str, str]:
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
        lines += [f"  | {line}" for line in self.details.splitlines()]
        if self.remedy:
            lines.append(f"  next: {self.remedy}")
        return "\n".join(lines)


class ReleaseError(ClientError):
    """A release cannot be read."""


class ContractError(ClientError):
    """What was given does not fit the model, or the model does not fit the task."""


class PictureError(ClientError):
    """A file cannot be read as a picture."""


class ServerError(ClientError):
    """The server did not answer as it should.

    ``refused`` is true when it answered with an error; ``retriable`` when it has not taken the request, so
    that sending it again is safe and may help.
    """

    def __init__(
        self, found: str, *, remedy: str = "", refused: bool = False, retriable: bool = False
    ) -> None:
        super().__init__(found, remedy=remedy)
        self.refused = refused
        self.retriable = retriable
