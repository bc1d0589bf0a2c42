"""N-grams of a caption; nltk's function, which also supports padding, takes several times as long."""

from collections.abc import Hashable, Iterator, Sequence


def ngrams(tokens: Sequence[Hashable], order: int) -> Iterator[tuple[Hashable, ...]]:
    """Yield every sequence of `order` consecutive tokens, in order."""
    return zip(*(tokens[start:] for start in range(order)), strict=False)
