"""Scoring captions: those of a model and those of a file."""
