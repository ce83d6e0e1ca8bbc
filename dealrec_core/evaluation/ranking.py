"""Full-ranking evaluation of any recommender on the held-out cases, per user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.evaluation import metrics
from dealrec_core.samples.recommender import Recommender
from dealrec_core.settings.evaluation import EvaluationConfig


@dataclass(frozen=True)
class Beside:
    """Figures about one recommender's lists beside their accuracy."""

    coverage: float
    """Share of the catalogue that at least one user is shown."""
    popularity_lift: float
    """Mean interactions of a shown item over those of a held-out target; 1 = no popularity bias."""
    cold_users: int
    """Users with a cold target."""
    cold_recall: float
    """Mean recall of the cold targets of these users; NaN without such a user."""


def evaluate(recommender: Recommender, cases: pl.DataFrame, config: EvaluationConfig) -> pl.DataFrame:
    """Recall, NDCG and MRR at K of each user: columns recommender, user_id, recall, ndcg, mrr; one row per case, same order.

    cases: columns user_id, history, targets (lists of item ids).
    """
    return per_user(recommender.name, ranked(recommender, cases[schema.HISTORY].to_list(), config), cases, config)


def per_user(name: str, lists: Sequence[Sequence[str]], cases: pl.DataFrame, config: EvaluationConfig) -> pl.DataFrame:
    """Metrics of rankings already computed; same columns as `evaluate`. lists: items (U, K) of the recommender `name`."""
    targets: list[list[str]] = cases["targets"].to_list()
    return pl.DataFrame(
        {
            "recommender": [name] * len(lists),
            schema.USER_ID: cases[schema.USER_ID],
            "recall": metrics.recall(lists, targets, k=config.k),
            "ndcg": metrics.ndcg(lists, targets, k=config.k),
            "mrr": metrics.mrr(lists, targets, k=config.k),
        }
    )


def beside(
    lists: Sequence[Sequence[str]],
    cases: pl.DataFrame,
    counts: Mapping[str, float],
    *,
    item_count: int,
    config: EvaluationConfig,
) -> Beside:
    """Coverage, popularity bias and recall of cold items; counts: interactions of each item before the held-out slice."""
    targets: list[list[str]] = cases["targets"].to_list()
    cold = [[item for item in taken if counts.get(item, 0.0) < config.cold_below] for taken in targets]
    users = [user for user, items in enumerate(cold) if items]
    cold_recall = metrics.recall([lists[user] for user in users], [cold[user] for user in users], k=config.k)
    return Beside(
        coverage=metrics.coverage(lists, item_count=item_count, k=config.k),
        popularity_lift=metrics.popularity_lift(lists, targets, counts, k=config.k),
        cold_users=len(users),
        cold_recall=float(cold_recall.mean()) if users else float("nan"),
    )


def ranked(
    recommender: Recommender, histories: Sequence[Sequence[str]], config: EvaluationConfig, *, depth: int = 0
) -> list[list[str]]:
    """The K items evaluated for each history, or more for a larger depth; those of the history are dropped where settings mask them."""
    length = max(config.k, depth)
    if not config.mask_seen:
        return recommender.recommend(histories, length)
    longest = max((len(set(history)) for history in histories), default=0)
    lists = recommender.recommend(histories, length + longest)
    return [
        [item for item in ranking if item not in set(history)][:length]
        for ranking, history in zip(lists, histories, strict=True)
    ]


def summary(per_user: pl.DataFrame) -> pl.DataFrame:
    """Mean metrics of each recommender, best recall first: columns recommender, users, recall, ndcg, mrr."""
    return (
        per_user.group_by("recommender", maintain_order=True)
        .agg(pl.len().alias("users"), pl.col("recall", "ndcg", "mrr").mean())
        .sort("recall", descending=True, maintain_order=True)
    )


def values(per_user: pl.DataFrame, recommender: str, metric: str) -> np.ndarray:
    """One metric of one recommender, per user (U,), in the order of the cases."""
    return per_user.filter(pl.col("recommender") == recommender)[metric].to_numpy()
