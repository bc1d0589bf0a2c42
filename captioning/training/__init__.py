"""Training the captioner."""
