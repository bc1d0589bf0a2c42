"""Readers of images as pixels, one module per format; each returns a `PixelSource`."""
