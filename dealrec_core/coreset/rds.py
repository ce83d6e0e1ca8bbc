"""RDS+ (Ivison et al. 2025): recent samples take turns in choosing the nearest sample by pooled hidden states."""

import numpy as np

from dealrec_core.coreset.base import Choice, Options, Pool, unit


def choose(pool: Pool, options: Options) -> Choice:
    """Round robin over the reference `hidden` (M, D): each takes the unchosen sample of the highest cosine, in turn.

    hidden (N, D): position-weighted mean of the last hidden states. Memory O(N M). Score: the highest cosine of a sample.
    """
    cosines = unit(pool.feature("hidden")) @ unit(pool.aim("hidden")).T  # (N, M)
    rows = round_robin(cosines, options.budget)
    return Choice(rows, cosines.max(axis=1), np.zeros(len(pool), dtype=np.int64))


def round_robin(similarity: np.ndarray, budget: int) -> np.ndarray:
    """Rows (k,), sorted: column after column takes its best row that is still free; of equals the first row."""
    depth = min(budget, len(similarity))
    preferences = np.argsort(-similarity, axis=0, kind="stable")[:depth]  # budget rows deep is enough for any column
    chosen: set[int] = set()
    at = np.zeros(similarity.shape[1], dtype=np.int64)
    column = 0
    while len(chosen) < depth:
        while int(preferences[at[column], column]) in chosen:
            at[column] += 1
        chosen.add(int(preferences[at[column], column]))
        column = (column + 1) % similarity.shape[1]
    return np.sort(np.fromiter(chosen, dtype=np.int64))
