"""What is wrong with a release in a registry, or with taking it over."""

from __future__ import annotations

from typing import Any, Literal

from builder.errors import BuilderError
from cluster.errors import ClusterError

Kind = Literal["foreign", "other", "unsigned", "key", "space"]


class ArtifactError(ClusterError):
    """A release that is not pushed, promoted or pulled.

    Attributes:
        kind: "foreign" (no release of this format), "other" (another release has the tag), "unsigned" (no
            signature by a key that is trusted), "key" (a key's file cannot be used), "space".
    """

    def __init__(self, kind: Kind, found: str, *, expected: str = "", remedy: str = "") -> None:
        super().__init__(found, expected=expected, remedy=remedy)
        self.kind = kind

    def facts(self) -> dict[str, Any]:
        """The error as data; its kind tells one from another."""
        return {**super().facts(), "kind": self.kind}


class BuildError(ClusterError):
    """The builder's own error, under the builder's own name of its kind."""

    def __init__(self, error: BuilderError) -> None:
        super().__init__(error.found, expected=error.expected, remedy=error.remedy, details=error.details)
        self._kind = type(error).__name__

    def facts(self) -> dict[str, Any]:
        """As the builder gives it."""
        return {**super().facts(), "kind": self._kind}
