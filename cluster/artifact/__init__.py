"""Releases in a registry: pushed, signed, promoted, pulled."""
