"""A recommender in the form that MLflow calls: frames of histories in, frames of item ids out."""

from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

import pandas as pd

from dealrec_core.samples.recommender import Recommender

TOGETHER = 64
"""Most histories of different requests that are computed together."""


@dataclass(eq=False)
class _Request:
    """Histories that wait for their lists of k items."""

    histories: list[list[str]]
    k: int
    lists: list[list[str]] | None = None


class Served:
    """Wraps a recommender for MLflow's pyfunc flavour.

    MLflow's server calls `predict` in one thread for each request. One thread computes at a time, and the requests that come meanwhile
    are then computed together: a batch of sixteen takes much less than sixteen times as long as one.
    """

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        self._waiting: list[_Request] = []
        self._turn, self._list = Lock(), Lock()

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Column `item_ids`: the k (default 10) best items for each list in column `history`, best first."""
        request = _Request([_ids(history) for history in frame["history"]], int((params or {}).get("k", 10)))
        with self._list:
            self._waiting.append(request)
        with self._turn:
            while request in self._waiting:
                self._answer(self._next())
            if request.lists is None:
                request.lists = self._recommender.recommend(request.histories, request.k)
        return pd.DataFrame({"item_ids": request.lists})

    def _next(self) -> list[_Request]:
        """Takes the requests that have waited longest: those of one k that are computed together."""
        with self._list:
            batch = self._waiting[:1]
            for request in self._waiting[1:]:
                size = sum(len(taken.histories) for taken in batch)
                if request.k != batch[0].k or size + len(request.histories) > TOGETHER:
                    break
                batch.append(request)
            del self._waiting[: len(batch)]
        return batch

    def _answer(self, batch: list[_Request]) -> None:
        """Answers several requests at once. Each thread computes its own where it is alone, or where one of the batch is faulty."""
        if len(batch) == 1:
            return
        histories = [history for request in batch for history in request.histories]
        with suppress(Exception):
            lists = iter(self._recommender.recommend(histories, batch[0].k))
            for request in batch:
                request.lists = [next(lists) for _ in request.histories]


def _ids(cell: Any) -> list[str]:
    """The item ids of one cell: a list or an array; a missing value is an empty history."""
    if isinstance(cell, str) or not hasattr(cell, "__iter__"):
        return [cell] if isinstance(cell, str) else []
    return [str(item) for item in cell]
