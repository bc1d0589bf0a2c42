"""Parts of a large set that are worked on apart, such as `2/8`: the second of eight."""

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple

from vision_rnn.errors import UserError


class Shard(NamedTuple):
    """One of several parts.

    Attributes:
        number: Number of the part, from 1.
        shards: Number n of parts.
    """

    number: int
    shards: int

    @classmethod
    def parse(cls, text: str, option: str = "--shard") -> "Shard":
        """Read `i/n`.

        Args:
            text: What was given.
            option: What it was given for, for the message.

        Raises:
            UserError: It is no such text.
        """
        if found := re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text, re.ASCII):
            number, shards = map(int, found.groups())
            if 1 <= number <= shards:
                return cls(number, shards)
        raise UserError(f"{option} {text}: not a part of several; give one such as 2/8, from 1/8 to 8/8")

    def __str__(self) -> str:
        """Return `i/n`."""
        return f"{self.number}/{self.shards}"

    def holds(self, path: Path) -> bool:
        """Whether a file is in this part, which holds about an n-th of all; its path alone tells."""
        digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.shards == self.number - 1

    def range_of(self, count: int) -> slice:
        """Return the places of this part in a list; one after the other, all parts are the list."""
        return slice(count * (self.number - 1) // self.shards, count * self.number // self.shards)
