"""Reading ahead: the next items of an iterator are computed in another thread while the last ones are used."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")
_END = object()


def read_ahead(items: Iterable[Item], number: int) -> Iterator[Item]:
    """Yield the items in order, while up to `number` more are computed, one at a time, in another thread.

    An error in `items` is raised where its item would be.
    """
    iterator, context = iter(items), copy_context()
    pool = ThreadPoolExecutor(max_workers=1)
    try:
        pending = deque(pool.submit(context.run, next, iterator, _END) for _ in range(number))
        while (item := pending.popleft().result()) is not _END:
            pending.append(pool.submit(context.run, next, iterator, _END))
            yield item  # pyright: ignore[reportReturnType]  # _END is none of the items
    finally:
        # What is not read yet is not needed by a consumer that stops early.
        pool.shutdown(cancel_futures=True)
