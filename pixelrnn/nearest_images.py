"""The nearest training image of each image: a sample that is much nearer than held-out images are was copied."""

from collections.abc import Callable

import numpy as np

_CHUNK = 2048


def nearest_images(
    images: np.ndarray, training: np.ndarray, progress: Callable[[], object] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Find the training image with the least squared Euclidean distance to each image, by comparing with all.

    Args:
        images: (N, ...) uint8.
        training: (M, ...) uint8, images of the same shape, at least one.
        progress: Callback after each chunk of `chunks(M)`.

    Returns:
        Index of the nearest training image, (N,) int64, the first of equally near ones; and the sum of squared
        differences of the levels, (N,) int64.
    """
    # Double precision is exact here, and a matrix product is much faster than differences.
    queries = images.reshape(len(images), -1).astype(np.float64)
    best, indices = np.full(len(queries), np.inf), np.zeros(len(queries), np.int64)
    for start in range(0, len(training), _CHUNK):
        chunk = training[start : start + _CHUNK].reshape(-1, queries.shape[1]).astype(np.float64)
        squared = (queries**2).sum(1)[:, None] - 2 * queries @ chunk.T + (chunk**2).sum(1)
        nearest = squared.argmin(1)
        distances = squared[np.arange(len(queries)), nearest]
        nearer = distances < best
        best[nearer], indices[nearer] = distances[nearer], start + nearest[nearer]
        if progress is not None:
            progress()
    return indices, best.astype(np.int64)


def chunks(number: int) -> int:
    """Return in how many chunks this number of training images is compared."""
    return -(-number // _CHUNK)
