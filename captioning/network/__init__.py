"""The networks of the captioner."""
