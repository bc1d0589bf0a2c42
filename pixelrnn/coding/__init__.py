"""Lossless coding by a model's own probabilities."""
