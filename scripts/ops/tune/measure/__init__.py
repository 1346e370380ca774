"""Measuring candidates: a scratch server that is gone afterwards, its memory, and the meter."""
