"""Lossless coding with the probabilities of a pixel model."""
