"""RecRanker's adaptive user sampling (Luo et al. 2023): long histories, clusters of users, and no user too often."""

import numpy as np

from dealrec_core.coreset import stratify
from dealrec_core.coreset.base import Choice, Options, Pool, highest
from dealrec_core.samples.clusters import k_means, nearest

CLUSTERS = 10
"""Clusters of users in the paper."""
REPETITION = 0.95
"""Weight of each further sample of a user, as a share of the one before; the authors' released value."""


def choose(pool: Pool, options: Options) -> Choice:
    """Draws by weight log(`history_length`), in proportion to k-means clusters of `user` (N, D), a user's repeats penalised.

    A weighted draw without replacement is the highest luck^(1 / weight) (Efraimidis and Spirakis 2006). `owner` (N,)
    numbers the users; where it is not given, every sample is a user of its own, as in the paper. Weight 0 is drawn last.
    The paper joins a weighted and a clustered set; we draw once with both, so that the budget is spent exactly.
    """
    lengths = pool.feature("history_length")
    owner = pool.features.get("owner", np.arange(len(pool)))
    users = pool.feature("user").astype(np.float64)
    random = np.random.default_rng(options.seed)
    clusters = nearest(users, k_means(users, count=CLUSTERS, iterations=50, seed=options.seed))
    waits = random.exponential(size=len(pool))
    weights = np.log(np.maximum(lengths, 1))
    keys = _keys(waits, weights * REPETITION ** repeats(owner, _keys(waits, weights)))
    taken = stratify.proportional(np.bincount(clusters), options.budget)
    members = [np.flatnonzero(clusters == cluster) for cluster in range(len(taken))]
    rows = [inside[highest(keys[inside], int(count))] for inside, count in zip(members, taken, strict=True)]
    return Choice(np.sort(np.concatenate(rows)), weights, clusters)


def repeats(owner: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Number of samples of the same owner with a higher key, (N,)."""
    order = np.lexsort((-keys, owner))
    ordered = owner[order]
    first = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    higher = np.empty(len(owner), dtype=np.int64)
    higher[order] = np.arange(len(owner)) - np.repeat(first, np.diff(first, append=len(owner)))
    return higher


def _keys(waits: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """-wait / weight, the logarithm of luck^(1 / weight); a weight of 0 comes after all others, by its wait."""
    last = -np.finfo(np.float64).max / 2
    return np.where(weights > 0, -waits / np.where(weights > 0, weights, 1), last * (1 + waits / (1 + waits)))
