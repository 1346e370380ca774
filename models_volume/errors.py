"""The one error of this package: something on the volume cannot be read as what it should be."""

from __future__ import annotations


class VolumeError(Exception):
    """A file of the models volume is missing, damaged or of another kind; the message names it."""
