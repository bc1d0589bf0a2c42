"""Captions of many images in rows, one below the other, for a decoding step that computes nothing twice.

Beams end at different words and share words and states: of 16 photos with a beam of 5, 80 captions, 46 are alive on
average while the longest is, with 31 distinct states and 15 distinct words. A step takes the captions that are alive
alone. What depends on a word alone is computed once per distinct word, and what depends on a state and its image alone
once per distinct state.

Shapes: R captions, W distinct words and S distinct states among them, B images; `.` the dimensions of one state.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Rows(NamedTuple):
    """Which captions share a word, a state or an image; integers, in NumPy arrays or in tensors."""

    words: Any  # (W,), the distinct last words
    word_of: Any  # (R,), the place of each caption's word among them
    state_of: Any  # (R,), the place of each caption's state among the distinct ones
    slots: Any  # (B, C), the distinct states of each image, for attention; state 0 in an empty slot
    places: Any  # (S,), the slot of each distinct state, counted through all images


class RowDecoding(ABC):
    """A batch of images whose captions an engine decodes in rows: a `captioning.search.Decoding`.

    Args:
        memory: The decoder's memory of the images, arrays or tensors (B, ...).
        initial_state: State of one caption per image before its first word, arrays or tensors (B, 1, .).
        distances: Distance of each image from the training photos, (B,); None if the model was not calibrated.
    """

    def __init__(
        self, memory: Sequence[Any], initial_state: Sequence[Any], distances: np.ndarray | None = None
    ) -> None:
        self.num_images, self.distances = len(memory[0]), distances
        self._all, self._initial_state = tuple(memory), initial_state
        self.start()

    def start(self) -> None:
        """Start one caption of every image."""
        self._memory = self._all
        self._state = tuple(part[:, 0] for part in self._initial_state)
        # The image of each row, as its place in the memory.
        self._image_of = np.arange(self.num_images)

    def step(self, parents: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Let caption r continue caption `parents[r]` of the last step with the word `words[r]`, both (R,) int64.

        The parents' images are in ascending order; after `start` there is one parent per image.

        Returns the natural log-probabilities of the next word, (R, V) float32, in an array that the caller may change,
        and the attention weights, (R, L) float32.
        """
        distinct_words, word_of = np.unique(words, return_inverse=True)
        states, state_of = np.unique(parents, return_inverse=True)
        images = self._image_of[states]
        alive, first, position, counts = np.unique(images, return_index=True, return_inverse=True, return_counts=True)
        # Not at every ending: a copy of the memory costs as much as some attention to images that need none.
        if 2 * len(alive) <= len(self._memory[0]):
            self._memory, images = tuple(part[alive] for part in self._memory), position
        slot = np.arange(len(states)) - first[position]
        slots = np.zeros((len(self._memory[0]), counts.max()), np.int64)
        slots[images, slot] = np.arange(len(states))
        rows = Rows(distinct_words, word_of, state_of, slots, images * slots.shape[1] + slot)
        self._image_of = images[state_of]
        state = tuple(part[states] for part in self._state)
        log_probabilities, weights, self._state = self._advance(rows, state, self._memory)
        return log_probabilities, weights

    @abstractmethod
    def _advance(
        self, rows: Rows, state: tuple[Any, ...], memory: tuple[Any, ...]
    ) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
        """Return the log-probabilities (R, V), the attention weights (R, L) and the next state (R, .).

        Args:
            rows: The captions.
            state: Their distinct states (S, .).
            memory: The memory of their images.
        """
