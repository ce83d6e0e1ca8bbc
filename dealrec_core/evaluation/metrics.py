"""Ranking metrics per user, and paired comparisons between recommenders. The mean over users is the caller's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dealrec_core.errors import DataError

Lists = Sequence[Sequence[str]]


def recall(lists: Lists, targets: Lists, *, k: int) -> np.ndarray:
    """Share of each user's distinct targets that is among his first k items, (U,)."""
    return _hits(lists, targets, k).sum(axis=1) / _counts(targets)


def ndcg(lists: Lists, targets: Lists, *, k: int) -> np.ndarray:
    """Discounted gain of the first k items over that of the best order, (U,): a hit at place p (from 1) gains 1 / log2(p + 1)."""
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(discount)[np.minimum(_counts(targets), k) - 1]
    return (_hits(lists, targets, k) * discount).sum(axis=1) / best


def mrr(lists: Lists, targets: Lists, *, k: int) -> np.ndarray:
    """One over the place of the first hit among the first k items, 0 without a hit, (U,)."""
    hits = _hits(lists, targets, k)
    return np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0.0)


def coverage(lists: Lists, *, item_count: int, k: int) -> float:
    """Share of the catalogue that appears in at least one user's first k items."""
    return len({item for ranking in lists for item in ranking[:k]}) / item_count


def popularity_lift(lists: Lists, targets: Lists, counts: Mapping[str, float], *, k: int) -> float:
    """How much more popular the first k items are than what users then took: ratio of the mean interactions per item.

    1 = no popularity bias. Means are taken per user first (as the group average popularity of Abdollahpouri et al.
    2019). Users without a list are left out; NaN where nothing was recommended or no target was ever taken.
    """
    pairs = [(ranking[:k], wanted) for ranking, wanted in zip(lists, targets, strict=True) if len(ranking)]
    taken = [np.mean([counts.get(item, 0.0) for item in wanted]) for _, wanted in pairs]
    given = [np.mean([counts.get(item, 0.0) for item in ranking]) for ranking, _ in pairs]
    return float(np.mean(given) / np.mean(taken)) if pairs and np.mean(taken) > 0 else float("nan")


@dataclass(frozen=True)
class Interval:
    """A mean difference with its 95% bootstrap interval, and the share of resamples above the threshold."""

    mean: float
    low: float
    high: float
    probability: float


def paired_difference(
    first: np.ndarray, second: np.ndarray, *, threshold: float = 0.0, resamples: int, seed: int
) -> Interval:
    """Mean of first - second over users, with a percentile bootstrap over users (Efron and Tibshirani 1993, chapter 13).

    first, second: (U,), values of the same users in the same order.

    Raises:
        DataError: the two differ in length, or there is no user.
    """
    if len(first) != len(second) or len(first) == 0:
        raise DataError(
            f"{len(first)} and {len(second)} users cannot be compared in pairs; evaluate both on the same cases"
        )
    difference = first - second
    rng = np.random.default_rng(seed)
    means = np.array([difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(difference.mean()), float(low), float(high), float((means > threshold).mean()))


def _hits(lists: Lists, targets: Lists, k: int) -> np.ndarray:
    """Whether place p of a user's list is a target, bool (U, k)."""
    hits = np.zeros((len(lists), k), dtype=bool)
    for user, (ranking, wanted) in enumerate(zip(lists, targets, strict=True)):
        found = set(wanted)
        hits[user, : min(k, len(ranking))] = [item in found for item in ranking[:k]]
    return hits


def _counts(targets: Lists) -> np.ndarray:
    counts = np.array([len(set(wanted)) for wanted in targets])
    if len(counts) and counts.min() == 0:
        raise DataError("a user without targets cannot be judged; leave him out of the cases")
    return counts
