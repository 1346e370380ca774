"""Releases in an OCI registry."""
