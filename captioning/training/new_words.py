"""New words for a trained captioner: rows of its word embedding and of its output bias, the others kept in place."""

from collections.abc import Sequence

import torch
from torch import nn

from captioning.captioner import Captioner
from data_prep.vocabulary import SPECIAL_TOKENS, Vocabulary


def add_words(captioner: Captioner, words: Sequence[str]) -> None:
    """Extend the vocabulary; the ids and weights of the known words stay the same.

    The output layer shares its weights with the embedding, so a new row is both. It is drawn from a normal distribution
    with the mean and the standard deviation of the known words in every dimension, and gets the lowest output bias of
    theirs: a new word starts as a rare one, and takes little probability from the known words. Relative to each other,
    these keep their probabilities.

    Args:
        captioner: The model, changed in place.
        words: The new words, in the order of their ids.

    Raises:
        ValueError: The captioner knows one of the words, or one occurs twice.
    """
    decoder = captioner.decoder
    captioner.vocabulary = Vocabulary([*captioner.vocabulary.words, *words])
    with torch.no_grad():
        known, biases = decoder.embedding.weight, decoder.output_bias
        spread, mean = torch.std_mean(known[len(SPECIAL_TOKENS) :], dim=0)
        new = mean + spread * torch.randn(len(words), known.shape[1]).to(known)
        lowest = biases[len(SPECIAL_TOKENS) :].min().expand(len(words))
        decoder.embedding = nn.Embedding.from_pretrained(torch.cat([known, new]), freeze=False)
        decoder.output_bias = nn.Parameter(torch.cat([biases, lowest]))
