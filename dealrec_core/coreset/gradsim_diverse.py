"""Gradients like those of recent histories, and unlike each other.

METHOD: similarity to about a hundred recent histories plus diversity. The trade-off is maximal marginal relevance
(Carbonell and Goldstein, SIGIR 1998): λ · relevance − (1 − λ) · largest similarity to what is already chosen.
"""

import numpy as np

from dealrec_core.coreset.base import Choice, Options, Pool, unit

RELEVANCE = 0.7
"""Weight λ of similarity to recent histories; 1 − λ weighs dissimilarity to the samples chosen before. The value is ours:
the source names similarity and diversity, and no weight."""


def choose(pool: Pool, options: Options) -> Choice:
    """Greedy by marginal relevance over `gradient` (N, P) against the reference gradients (M, P)."""
    gradients = unit(pool.feature("gradient"))
    relevance = (gradients @ unit(pool.aim("gradient")).T).mean(axis=1)
    rows = marginal(gradients, relevance, options.budget)
    return Choice(rows, relevance, np.zeros(len(pool), dtype=np.int64))


def marginal(vectors: np.ndarray, relevance: np.ndarray, budget: int) -> np.ndarray:
    """Rows (k,), sorted, of unit vectors (N, D), chosen one after the other; of equals the first. Time O(k N D)."""
    nearest = np.zeros(len(vectors))
    free = np.ones(len(vectors), dtype=bool)
    for step in range(min(budget, len(vectors))):
        gain = np.where(free, RELEVANCE * relevance - (1 - RELEVANCE) * nearest, -np.inf)
        best = int(gain.argmax())
        free[best] = False
        closeness = vectors @ vectors[best]
        nearest = closeness if step == 0 else np.maximum(nearest, closeness)
    return np.flatnonzero(~free)
