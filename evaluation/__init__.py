"""Scores of captions and of pixels: pure functions of tokens or tensors."""
