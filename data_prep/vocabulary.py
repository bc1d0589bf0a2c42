"""The vocabulary of a captioner as integer ids: four special tokens, then the words by decreasing frequency."""

from collections import Counter
from collections.abc import Iterable, Sequence

PAD, BOS, EOS, UNK = range(4)
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")


class Vocabulary:
    """A one-to-one map between words and ids; the ids 0..3 are `<pad>`, `<bos>`, `<eos>` and `<unk>`.

    Args:
        words: Known words without the special tokens; the first gets id 4.

    Raises:
        ValueError: A word occurs twice, or is a special token.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._tokens = [*SPECIAL_TOKENS, *words]
        # Special tokens are not included, so that a caption with the text "<eos>" cannot end a sentence.
        self._ids = {word: index for index, word in enumerate(words, start=len(SPECIAL_TOKENS))}
        if len(self._ids.keys() | set(SPECIAL_TOKENS)) != len(self._tokens):
            raise ValueError("a vocabulary's words must differ from each other and from the special tokens")

    @classmethod
    def build(cls, token_lists: Iterable[Sequence[str]], min_count: int) -> "Vocabulary":
        """Build a vocabulary of the words with at least `min_count` occurrences, by count, ties alphabetically."""
        counts = Counter(token for tokens in token_lists for token in tokens)
        kept = [word for word, count in counts.items() if count >= min_count and word not in SPECIAL_TOKENS]
        return cls(sorted(kept, key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._tokens)

    def __contains__(self, word: str) -> bool:
        """Whether the vocabulary contains `word`; special tokens are not words."""
        return word in self._ids

    @property
    def words(self) -> list[str]:
        """The words in the order of their ids, without the special tokens: `Vocabulary(words)` gives an equal one."""
        return self._tokens[len(SPECIAL_TOKENS) :]

    def encode(self, tokens: Iterable[str]) -> list[int]:
        """Map tokens to ids, unknown ones to `UNK`; adds neither `BOS` nor `EOS`."""
        return [self._ids.get(token, UNK) for token in tokens]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Map ids to tokens up to the first `EOS`, omitting `PAD` and `BOS`.

        Raises:
            IndexError: An id is outside 0..len(self)-1.
        """
        tokens = []
        for index in map(int, ids):
            if index == EOS:
                break
            if index < 0:
                raise IndexError(f"id {index} is negative")
            if index not in (PAD, BOS):
                tokens.append(self._tokens[index])
        return tokens

    def coverage(self, token_lists: Iterable[Sequence[str]]) -> float:
        """Share of the running tokens in the vocabulary, 0..1; 1 if there are no tokens."""
        known = [token in self for tokens in token_lists for token in tokens]
        return sum(known) / len(known) if known else 1.0
