"""k-means, for codes of items and clusters of users."""

import numpy as np


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Row of the nearest centre of each point, the first of equals, int64 (N,)."""
    rows = np.empty(len(points), dtype=np.int64)
    norms = np.square(centres).sum(1)
    for start in range(0, len(points), 4096):  # bounds the (N, K) products
        part = points[start : start + 4096]
        rows[start : start + 4096] = np.argmin(norms - 2 * part @ centres.T, axis=1)
    return rows


def k_means(points: np.ndarray, *, count: int, iterations: int, seed: int) -> np.ndarray:
    """Centres (K, D) by k-means++ and Lloyd's iterations, K = min(count, distinct points); the same for one seed.

    A centre that loses its points moves to a point far from its own centre, so that no code is unused.
    """
    from sklearn.cluster import KMeans  # not at the top: the import takes seconds
    from threadpoolctl import threadpool_limits

    distinct = np.unique(points, axis=0)
    if len(distinct) <= count:
        return distinct
    with threadpool_limits(1):  # threads add their sums in any order
        fitted = KMeans(count, n_init=1, max_iter=iterations, tol=0, random_state=seed % 2**32).fit(points)
    return np.asarray(fitted.cluster_centers_)
