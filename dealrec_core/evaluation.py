"""Full-ranking evaluation of any recommender on the held-out cases, per user."""

from collections.abc import Sequence

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from dealrec_core import metrics, schema
from dealrec_core.recommenders.base import Recommender


class EvaluateConfig(BaseModel):
    """How recommenders are compared on the held-out slice."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    k: int = Field(default=10, ge=1, le=1000, title="List length K")
    """Recall, NDCG and MRR are taken at this length; the gate uses it too."""
    users: int | None = Field(default=500, ge=1, title="Users at most")
    """Held-out users to compare on, drawn at random once a night; None means all."""
    mask_seen: bool = Field(default=False, title="Mask seen items")
    """Drop items of the user's history from every list before it is judged."""


def evaluate(recommender: Recommender, cases: pl.DataFrame, config: EvaluateConfig) -> pl.DataFrame:
    """Recall, NDCG and MRR at K of each user: columns recommender, user_id, recall, ndcg, mrr; one row per case, same order.

    cases: columns user_id, history, targets (lists of item ids).
    """
    histories: list[list[str]] = cases[schema.HISTORY].to_list()
    targets: list[list[str]] = cases["targets"].to_list()
    lists = ranked(recommender, histories, config)
    return pl.DataFrame(
        {
            "recommender": [recommender.name] * len(lists),
            schema.USER_ID: cases[schema.USER_ID],
            "recall": metrics.recall(lists, targets, k=config.k),
            "ndcg": metrics.ndcg(lists, targets, k=config.k),
            "mrr": metrics.mrr(lists, targets, k=config.k),
        }
    )


def ranked(recommender: Recommender, histories: Sequence[Sequence[str]], config: EvaluateConfig) -> list[list[str]]:
    """The K items judged for each history, with seen items dropped where the settings say so."""
    if not config.mask_seen:
        return recommender.recommend(histories, config.k)
    longest = max((len(set(history)) for history in histories), default=0)
    lists = recommender.recommend(histories, config.k + longest)
    return [
        [item for item in ranking if item not in set(history)][: config.k]
        for ranking, history in zip(lists, histories, strict=True)
    ]


def summary(per_user: pl.DataFrame) -> pl.DataFrame:
    """Means over users of each recommender, best recall first: recommender, users, recall, ndcg, mrr."""
    return (
        per_user.group_by("recommender", maintain_order=True)
        .agg(pl.len().alias("users"), pl.col("recall", "ndcg", "mrr").mean())
        .sort("recall", descending=True, maintain_order=True)
    )


def values(per_user: pl.DataFrame, recommender: str, metric: str) -> np.ndarray:
    """One metric of one recommender, per user (U,), in the order of the cases."""
    return per_user.filter(pl.col("recommender") == recommender)[metric].to_numpy()
