"""Coverage-enhanced selection: groups of equal score width, the smallest served first (paper, Algorithm 2; CCS, Zheng et al. 2023)."""

import numpy as np


def groups(scores: np.ndarray, count: int) -> np.ndarray:
    """The group 0..count-1 of each score (N,): equal widths from the smallest to the largest score, which is in the last group.

    >>> groups(np.array([0.0, 0.4, 0.5, 1.0]), 2).tolist()
    [0, 0, 1, 1]
    """
    low, width = scores.min(), np.ptp(scores)
    if width == 0:
        return np.zeros(len(scores), dtype=np.int64)
    return np.minimum(((scores - low) / width * count).astype(np.int64), count - 1)


def allot(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Number of samples of each group (K,): smallest group first, each min(B, size) with B = floor(budget / groups) over the rest.

    Empty groups do not count. The largest group can always give the remainder of the floors, so the sum is
    min(budget, sum of sizes) exactly. The lower of two groups of one size comes first.

    >>> allot(np.array([1, 10, 10]), 9).tolist()  # min(9 // 3, 1), then 8 // 2, then the rest
    [1, 4, 4]
    """
    taken = np.zeros(len(sizes), dtype=np.int64)
    order = [group for group in np.argsort(sizes, kind="stable") if sizes[group] > 0]
    remaining = budget
    for served, group in enumerate(order):
        taken[group] = min(remaining // (len(order) - served), sizes[group])
        remaining -= taken[group]
    return taken


def draw(membership: np.ndarray, taken: np.ndarray, *, seed: int) -> np.ndarray:
    """Rows drawn at random without replacement, `taken[g]` from each group g of `membership` (N,), sorted."""
    generator = np.random.default_rng(seed)
    sizes = np.bincount(membership, minlength=len(taken))
    least_bytes = np.min_scalar_type(max(len(taken) - 1, 0))
    by_group = np.argsort(membership.astype(least_bytes), kind="stable")  # a radix sort: linear in N
    starts = np.cumsum(sizes) - sizes
    drawn = [
        by_group[starts[group] + generator.choice(int(sizes[group]), int(taken[group]), replace=False, shuffle=False)]
        for group in np.flatnonzero(taken)
    ]
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)


def spread(membership: np.ndarray, rows: np.ndarray, budget: int, *, seed: int) -> np.ndarray:
    """Algorithm 2 within `rows`: `allot` the budget over their groups, then `draw`; row numbers of the whole, sorted."""
    if len(rows) == 0:
        return rows
    inside = membership[rows]
    return rows[draw(inside, allot(np.bincount(inside), budget), seed=seed)]


def proportional(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Shares of the budget in proportion to the sizes (K,), by largest remainders; sums to min(budget, sum of sizes).

    With equal remainders the larger group wins, then the lower one.

    >>> proportional(np.array([3, 1]), 2).tolist()  # shares 1.5 and 0.5
    [2, 0]
    """
    total = int(sizes.sum())
    if budget >= total:
        return sizes.copy()
    taken, remainders = np.divmod(sizes * budget, total)
    taken[np.lexsort((-sizes, -remainders))[: budget - int(taken.sum())]] += 1
    return taken
