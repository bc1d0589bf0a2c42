"""Scores of captions, from a model or from a file."""
