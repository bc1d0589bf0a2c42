"""Reading ahead: order, errors, how far ahead, and what is left when the reader stops."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioning.read_ahead import read_ahead


@given(items=st.lists(st.integers()), number=st.integers(1, 5))
def test_it_gives_the_items_in_order(items: list[int], number: int) -> None:
    assert list(read_ahead(iter(items), number)) == items


def test_an_error_comes_where_its_item_would_be() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("third")

    ahead = read_ahead(items(), 8)
    assert [next(ahead), next(ahead)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(ahead)


def test_items_are_computed_in_one_other_thread_while_the_reader_works() -> None:
    threads: set[int] = set()
    computed: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            threads.add(threading.get_ident())
            computed.append(number)
            yield number

    ahead = read_ahead(items(), 3)
    assert next(ahead) == 0
    deadline = time.monotonic() + 10
    while len(computed) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    # One is read, and three more wait; the reader decides how far it goes.
    assert computed == [0, 1, 2, 3]
    ahead.close()  # type: ignore[attr-defined]
    assert threads.isdisjoint({threading.get_ident()})
    assert len(threads) == 1
    assert len(computed) <= 5
