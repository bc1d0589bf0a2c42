"""A captioner of one's own, from a folder of captioned photos, in one command."""
