"""How well words are found in images: average precision, the area under a word's precision-recall curve."""

import numpy as np


def mean_average_precision(scores: np.ndarray, present: np.ndarray) -> float:
    """Return the mean over words of average precision, in 0..1; 1 if every image with a word precedes all others.

    Average precision is the mean, over the images with the word, of the precision among all images down to that one,
    in descending order of the scores (Salton and McGill, "Introduction to Modern Information Retrieval", 1983). Words
    that no image has are left out.

    Args:
        scores: Score of each word for each image, (images, words).
        present: Whether the image has the word, (images, words) bool.

    Raises:
        ValueError: No image has any of the words.
    """
    order = np.argsort(-scores, axis=0, kind="stable")
    hits = np.take_along_axis(present, order, axis=0)[:, present.any(axis=0)]
    if not hits.size:
        raise ValueError("no image has any of the words")
    precision = hits.cumsum(axis=0) / np.arange(1, len(hits) + 1)[:, np.newaxis]
    return float(((precision * hits).sum(axis=0) / hits.sum(axis=0)).mean())
