"""What the cluster's commands refuse or fail on: found, expected, remedy, like the builder's errors."""

from __future__ import annotations

from builder.errors import RemedyError


class ClusterError(RemedyError):
    """What a command of the cluster refuses or fails on: never one of the builder's own."""
