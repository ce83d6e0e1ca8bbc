"""Ranking metrics per user. The caller takes the mean over users."""

from collections.abc import Mapping, Sequence

import numpy as np

from dealrec_core.errors import DataError

Lists = Sequence[Sequence[str]]


def recall(lists: Lists, targets: Lists, *, k: int) -> np.ndarray:
    """Share of each user's distinct targets that is among the first k items of the list, (U,).

    >>> recall([["a", "b", "c"]], [["b", "x"]], k=2).tolist()  # one of two targets
    [0.5]
    """
    return _hits(lists, targets, k).sum(axis=1) / _counts(targets)


def ndcg(lists: Lists, targets: Lists, *, k: int) -> np.ndarray:
    """Discounted gain of the first k items over that of the best order, (U,): a hit at place p (from 1) gains 1 / log2(p + 1).

    >>> ndcg([["a", "b", "c"]], [["c"]], k=3).tolist()  # 1 / log2(3 + 1)
    [0.5]
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(discount)[np.minimum(_counts(targets), k) - 1]
    return (_hits(lists, targets, k) * discount).sum(axis=1) / best


def mrr(lists: Lists, targets: Lists, *, k: int) -> np.ndarray:
    """One over the place of the first hit among the first k items, 0 without a hit, (U,).

    >>> mrr([["a", "b"], ["a", "b"]], [["b"], ["x"]], k=2).tolist()
    [0.5, 0.0]
    """
    hits = _hits(lists, targets, k)
    return np.where(hits.any(axis=1), 1 / (hits.argmax(axis=1) + 1), 0.0)


def coverage(lists: Lists, *, item_count: int, k: int) -> float:
    """Share of the catalogue that appears in at least one user's first k items.

    >>> coverage([["a", "b"], ["a", "c"]], item_count=6, k=2)
    0.5
    """
    return len({item for ranking in lists for item in ranking[:k]}) / item_count


def popularity_lift(lists: Lists, targets: Lists, counts: Mapping[str, float], *, k: int) -> float:
    """Popularity of the first k items over that of the targets: ratio of the mean interactions per item.

    1 = no popularity bias. Means are computed per user first (as the group average popularity of Abdollahpouri et al.
    2019). Users without a list are ignored; NaN if nothing was recommended or no target has an interaction.

    >>> popularity_lift([["a"]], [["b"]], {"a": 6.0, "b": 2.0}, k=1)
    3.0
    """
    pairs = [(ranking[:k], taken) for ranking, taken in zip(lists, targets, strict=True) if len(ranking)]
    of_targets = [np.mean([counts.get(item, 0.0) for item in taken]) for _, taken in pairs]
    of_lists = [np.mean([counts.get(item, 0.0) for item in ranking]) for ranking, _ in pairs]
    return float(np.mean(of_lists) / np.mean(of_targets)) if pairs and np.mean(of_targets) > 0 else float("nan")


def _hits(lists: Lists, targets: Lists, k: int) -> np.ndarray:
    """Whether place p of a user's list is a target that the list did not hold before, bool (U, k)."""
    hits = np.zeros((len(lists), k), dtype=bool)
    for user, (ranking, taken) in enumerate(zip(lists, targets, strict=True)):
        missing = set(taken)
        for place, item in enumerate(ranking[:k]):
            hits[user, place] = item in missing
            missing.discard(item)
    return hits


def _counts(targets: Lists) -> np.ndarray:
    counts = np.array([len(set(taken)) for taken in targets])
    if len(counts) and counts.min() == 0:
        raise DataError("a user without targets cannot be evaluated; remove the user from the cases")
    return counts
