"""Studies of the pixel models: causality, depth, handwriting."""
