"""The model spec: what a user writes, read and checked."""
