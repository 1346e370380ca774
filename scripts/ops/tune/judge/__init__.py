"""Judging candidates: the objective, the noise, successive halving."""
