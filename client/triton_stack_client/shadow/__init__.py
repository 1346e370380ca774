"""Copies of requests: each is sent to a canary and to another server, and the two answers are compared."""
