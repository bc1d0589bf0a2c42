"""Training of the pixel models."""
