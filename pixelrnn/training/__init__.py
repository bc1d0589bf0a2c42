"""Training the pixel models."""
