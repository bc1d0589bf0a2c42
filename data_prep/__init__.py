"""Sources of captions and of pixels, made into prepared data sets on disk."""
