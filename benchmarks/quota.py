"""A rule that was tried beside `targeted`: each target item gets a quota of samples by its share of the recent targets."""

import numpy as np

from dealrec_core.coreset import ordering
from dealrec_core.coreset.dsir import SMOOTHING


def quotas(
    items: np.ndarray, recent: np.ndarray, *, category: np.ndarray, budget: int, random: np.random.Generator
) -> np.ndarray:
    """Number of samples of each item of the catalogue, (V,), at most as many as the pool has; their sum is the budget.

    items (N,) and recent (M,): targets of the pool and of the recent samples. category (V,): of each item. The recent share
    of an item without a sample goes to the items of its category in proportion to their samples, and to all where there are none.
    """
    sizes = np.bincount(items, minlength=len(category))
    wanted = np.bincount(recent, minlength=len(category)) / max(len(recent), 1)
    lost = np.bincount(category, np.where(sizes > 0, 0, wanted))
    of_category = np.bincount(category, sizes)
    passed = np.divide(lost, of_category, out=np.zeros(len(lost)), where=of_category > 0)
    share = np.where(sizes > 0, wanted, 0) + passed[category] * sizes + SMOOTHING * sizes / len(items)
    return apportioned(share, sizes, budget=budget, random=random)


def apportioned(share: np.ndarray, most: np.ndarray, *, budget: int, random: np.random.Generator) -> np.ndarray:
    """Whole numbers (V,) in proportion to the shares by largest remainders, at most `most`, that sum to min(budget, sum of most).

    The part that an item cannot fill goes to the others in proportion to their shares. Equal remainders are drawn.
    """
    if budget >= most.sum():
        return most.copy()
    full = np.zeros(len(share), dtype=bool)
    while True:
        ideal = np.where(full, most, (budget - most[full].sum()) * share / share[~full].sum())
        over = ~full & (ideal > most)
        if not over.any():
            break
        full |= over
    taken = np.floor(ideal + 1e-9).astype(np.int64)
    remainders = ideal - taken + 1e-9 * random.random(len(share))
    taken[np.argsort(-remainders)[: budget - int(taken.sum())]] += 1
    return taken


def best_of_each(items: np.ndarray, best_first: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """The rows, sorted, that stand first in `best_first` (N,) among those of their item (N,), `quota` (V,) of each item."""
    open_rows = best_first[quota[items[best_first]] > 0]
    of_row = items[open_rows]
    by_item = open_rows[ordering.argsort(of_row.astype(np.uint64) << np.uint64(32))]
    sizes = np.bincount(of_row, minlength=len(quota))
    place = np.arange(len(by_item)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.sort(by_item[place < quota[items[by_item]]])
