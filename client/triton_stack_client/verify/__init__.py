"""Proof that a server serves what was released."""
