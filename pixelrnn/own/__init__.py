"""A pixel model of one's own, from a folder of pictures, in one command."""
