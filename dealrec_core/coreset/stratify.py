"""Coverage-enhanced selection: groups of equal score width, the smallest served first (paper, Algorithm 2; CCS, Zheng et al. 2023)."""

import numpy as np


def groups(scores: np.ndarray, count: int) -> np.ndarray:
    """The group 0..count-1 of each score (N,): equal widths from the smallest to the largest score, which is in the last group."""
    low, width = scores.min(), np.ptp(scores)
    if width == 0:
        return np.zeros(len(scores), dtype=np.int64)
    return np.minimum(((scores - low) / width * count).astype(np.int64), count - 1)


def allot(sizes: np.ndarray, budget: int) -> np.ndarray:
    """How many to take from each group (K,): smallest first, each min(B, size) with B = floor(budget left / groups left).

    Empty groups are no groups. The floors never leave anything over for the largest group that it cannot give, so the sum is
    min(budget, sum of sizes) exactly. Of two groups of one size the lower comes first.
    """
    taken = np.zeros(len(sizes), dtype=np.int64)
    order = [group for group in np.argsort(sizes, kind="stable") if sizes[group] > 0]
    left = budget
    for served, group in enumerate(order):
        taken[group] = min(left // (len(order) - served), sizes[group])
        left -= taken[group]
    return taken


def draw(membership: np.ndarray, taken: np.ndarray, *, seed: int) -> np.ndarray:
    """Rows drawn at random, `taken[g]` from each group g, sorted."""
    luck = np.random.default_rng(seed).random(len(membership))
    order = np.lexsort((luck, membership))
    sizes = np.bincount(membership, minlength=len(taken))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    rank = np.arange(len(order)) - starts[membership[order]]
    return np.sort(order[rank < taken[membership[order]]])
