"""Readers of captioned images, one a format; each yields `CaptionRecord`s."""
