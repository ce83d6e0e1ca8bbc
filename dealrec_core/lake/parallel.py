"""Runs a function over a stream of items in a few threads."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Over(Protocol):
    """Maps a function over shards on any number of machines: like `map`, with results in the order of the shards."""

    def __call__(self, function: Callable[[Item], Result], shards: Iterable[Item], /) -> Iterator[Result]: ...


def in_order(function: Callable[[Item], Result], items: Iterable[Item], *, threads: int) -> Iterator[Result]:
    """Yields the results in the order of the items; at most `threads` + 1 items are drawn ahead of their turn.

    An error of the function or of the items is raised after the threads have ended.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
