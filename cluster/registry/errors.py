"""What a registry refuses, or does not answer."""

from __future__ import annotations

from typing import Any, Literal

from cluster.errors import ClusterError

Kind = Literal["unreachable", "denied", "missing", "corrupt", "refused"]


class RegistryError(ClusterError):
    """A registry's failure.

    Attributes:
        kind: "unreachable" (no answer, or a server error, after all tries), "denied" (credentials),
            "missing" (no such repository, tag or blob), "corrupt" (not the bytes that were asked for),
            "refused" (any other answer).
    """

    def __init__(
        self, kind: Kind, found: str, *, expected: str = "", remedy: str = "", details: str = ""
    ) -> None:
        super().__init__(found, expected=expected, remedy=remedy, details=details)
        self.kind: Kind = kind

    def facts(self) -> dict[str, Any]:
        """The error as data; its kind tells one failure of a registry from another."""
        return {**super().facts(), "kind": self.kind}
