"""The n-grams of a caption: nltk's own function, which also pads, takes several times as long."""

from collections.abc import Hashable, Iterator, Sequence


def ngrams(tokens: Sequence[Hashable], order: int) -> Iterator[tuple[Hashable, ...]]:
    """Yield every run of `order` tokens, from the first on."""
    return zip(*(tokens[start:] for start in range(order)), strict=False)
