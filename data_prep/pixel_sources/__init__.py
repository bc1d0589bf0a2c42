"""Readers of images as numbers, one a format; each returns a `PixelSource`."""
