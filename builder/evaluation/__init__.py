"""Accuracy on real data: what a model gets right before and after its engine is built."""
