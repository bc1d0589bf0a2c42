"""The layers of the pixel models."""
