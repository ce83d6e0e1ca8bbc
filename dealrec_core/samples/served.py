"""A recommender in the form that MLflow calls: frames of histories in, frames of item ids out."""

from typing import Any

import pandas as pd

from dealrec_core.samples.recommender import Recommender


class Served:
    """Wraps a recommender for MLflow's pyfunc flavour."""

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender

    def predict(self, frame: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Column `item_ids`: the k (default 10) best items for each list in column `history`, best first."""
        k = int((params or {}).get("k", 10))
        histories = [_ids(history) for history in frame["history"]]
        return pd.DataFrame({"item_ids": self._recommender.recommend(histories, k)})


def _ids(cell: Any) -> list[str]:
    """The item ids of one cell: a list or an array; a missing value is an empty history."""
    if isinstance(cell, str) or not hasattr(cell, "__iter__"):
        return [cell] if isinstance(cell, str) else []
    return [str(item) for item in cell]
