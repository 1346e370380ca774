"""The errors of this package: something cannot be read as what it should be."""

from __future__ import annotations


class VolumeError(Exception):
    """A file of the models volume is missing, damaged or of another kind; the message names it."""


class PictureError(Exception):
    """A file cannot be read as a picture; the message says why and does not name it."""
