"""Goes on with less at once where memory has run out, on a GPU or on a CPU."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

log = logging.getLogger(__name__)
Result = TypeVar("Result")
FEWEST_TOKENS = 16


class Parts:
    """The number of parts in which batches are computed: one, and twice as many each time that memory runs out."""

    def __init__(self) -> None:
        self.count = 1

    def compute(self, size: int, work: Callable[[int], Result]) -> Result:
        """Returns the result of `work`, which is called with the number of parts for a batch of this size and starts again each time."""
        while True:
            try:
                return work(min(self.count, size))
            except (MemoryError, RuntimeError) as error:
                if self.count >= size or not is_exhausted(error):
                    raise
            self.count *= 2
            log.warning("out of memory: batches are computed in %d parts from now on", self.count)


def with_fewer_tokens(tokens: int, work: Callable[[int], Result]) -> Result:
    """Returns the result of `work`, which begins anew with half of the tokens at once each time that memory runs out."""
    while True:
        try:
            return work(tokens)
        except (MemoryError, RuntimeError) as error:
            if tokens <= FEWEST_TOKENS or not is_exhausted(error):
                raise
        log.warning("out of memory with %d tokens at once: begun anew with %d", tokens, tokens // 2)
        tokens //= 2


def is_exhausted(error: BaseException) -> bool:
    """Whether memory ran out (on a CPU torch raises a plain RuntimeError)."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)
