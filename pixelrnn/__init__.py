"""Pixel prediction with row-wise deep recurrent networks."""
