"""Readers of captioned images, one module per format; each yields `CaptionRecord`s."""
