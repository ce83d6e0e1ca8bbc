"""GORACS (Mei et al. 2025): near the distribution of recent samples in the sense of optimal transport, with large gradients.

Minimises OT(reference, chosen) − w · mean gradient norm. In the transport every chosen sample serves as much of the reference as every
other. We relax it: of M reference points each is served by its c = ceil(k / M) nearest of the k chosen samples, which is facility
location, the paper's own starting point, where c = 1. With c = 1 and fewer points than chosen samples most of these would serve none and be
chosen by their norm alone. Start: greedy over a random part of the samples at each step (Mirzasoleiman et al., AAAI 2015); then exchanges
that lower the same objective.
"""

import numpy as np

from dealrec_core.coreset.base import Choice, Options, Pool

NORM_WEIGHT = 0.1
"""w (λ in the paper), on norms and distances divided by their largest: as released, and its value for Games there."""
MISS = 0.01
"""The greedy start looks at N / k · ln(1 / MISS) samples at each step."""


def choose(pool: Pool, options: Options) -> Choice:
    """Greedy facility location and one round of exchanges over `vector` (N, D), effort and the reference vectors (M, D)."""
    costs = distances(pool.feature("vector"), pool.aim("vector"))
    costs = costs / (costs.max() or 1.0)
    norms = pool.effort
    bonus = NORM_WEIGHT * norms / (norms.max() or 1.0) / options.budget
    random = np.random.default_rng(options.seed)
    rows = exchange(costs, bonus, start(costs, bonus, options.budget, random=random), random=random)
    return Choice(rows, bonus * options.budget - costs.min(axis=1), np.zeros(len(pool), dtype=np.int64))


def start(costs: np.ndarray, bonus: np.ndarray, budget: int, *, random: np.random.Generator) -> np.ndarray:
    """Greedy rows (k,): each step adds, of a random part of the free samples, the one that lowers the objective most."""
    reach = np.full(
        (served_by(costs, budget), costs.shape[1]), costs.max()
    )  # costs of the nearest, the farthest of them first
    free = np.ones(len(costs), dtype=bool)
    looked_at = int(np.ceil(len(costs) / budget * np.log(1 / MISS)))
    for _ in range(budget):
        open_rows = np.flatnonzero(free)
        part = np.sort(random.choice(open_rows, min(looked_at, len(open_rows)), replace=False))
        gains = np.maximum(reach[0] - costs[part], 0).mean(axis=1) / len(reach) + bonus[part]
        best = part[int(gains.argmax())]
        free[best] = False
        reach[0] = np.minimum(reach[0], costs[best])
        reach = -np.sort(-reach, axis=0)
    return np.flatnonzero(~free)


def served_by(costs: np.ndarray, budget: int) -> int:
    """Number of chosen samples c that serve each reference point of costs (N, M)."""
    return max(1, -(-budget // costs.shape[1]))


def exchange(costs: np.ndarray, bonus: np.ndarray, rows: np.ndarray, *, random: np.random.Generator) -> np.ndarray:
    """Rows (k,), sorted, after one round in which each chosen sample gives way to a drawn one that lowers the objective."""
    chosen = rows.copy()
    free = np.setdiff1d(np.arange(len(costs)), chosen)
    if len(free) == 0 or len(chosen) == 0:
        return chosen
    serving = served_by(costs, len(chosen))
    none = np.full((serving, costs.shape[1]), costs.max())  # fewer than c others serve a point of a small coreset
    for place in random.permutation(len(chosen)):
        others = np.concatenate([none, costs[np.delete(chosen, place)]])
        reach = np.partition(others, serving - 1, axis=0)[serving - 1]
        part = random.choice(len(free), min(64, len(free)), replace=False)
        candidates = np.concatenate([[chosen[place]], free[part]])
        values = np.minimum(costs[candidates] - reach, 0).mean(axis=1) / serving - bonus[candidates]
        best = int(values.argmin())  # candidate 0 is the chosen sample: it stays unless another is strictly better
        if best > 0:
            chosen[place], free[part[best - 1]] = candidates[best], chosen[place]
    return np.sort(chosen)


def distances(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Euclidean distances (N, M)."""
    squares = np.square(vectors).sum(1)[:, None] + np.square(reference).sum(1) - 2 * vectors @ reference.T
    return np.sqrt(np.maximum(squares, 0))
