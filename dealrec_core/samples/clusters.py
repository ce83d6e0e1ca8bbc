"""k-means, for codes of items and clusters of users."""

import numpy as np
from scipy import sparse


def nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Row of the nearest centre of each point, the first of equals, int64 (N,)."""
    found = np.empty(len(points), dtype=np.int64)
    norms = np.square(centres).sum(1)
    for start in range(0, len(points), 4096):  # bounds the (N, K) products
        part = points[start : start + 4096]
        found[start : start + 4096] = np.argmin(norms - 2 * part @ centres.T, axis=1)
    return found


def k_means(points: np.ndarray, *, count: int, iterations: int, random: np.random.Generator) -> np.ndarray:
    """Centres (K, D) by k-means++ and Lloyd's iterations, K = min(count, distinct points).

    A centre that loses its points moves to the point farthest from its own centre, so that no code is dead.
    """
    distinct = np.unique(points, axis=0)
    if len(distinct) <= count:
        return distinct
    centres = _spread(points, count, random)
    for _ in range(iterations):
        own = nearest(points, centres)
        sizes = np.bincount(own, minlength=count)
        moved = sparse.csr_matrix((np.ones(len(points)), (own, np.arange(len(points)))), shape=(count, len(points)))
        means = np.asarray(moved @ points) / np.maximum(sizes, 1)[:, None]
        dead = np.flatnonzero(sizes == 0)
        if len(dead):
            far = np.square(points - centres[own]).sum(1)
            means[dead] = points[np.argsort(-far, kind="stable")[: len(dead)]]
        if np.allclose(means, centres, rtol=0, atol=1e-12):
            break
        centres = means
    return centres


def _spread(points: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """First centres by k-means++: each new one drawn in proportion to the squared distance to those before."""
    chosen = [int(random.integers(len(points)))]
    gaps = np.square(points - points[chosen[0]]).sum(1)
    for _ in range(count - 1):
        chosen.append(int(random.choice(len(points), p=gaps / gaps.sum())))
        gaps = np.minimum(gaps, np.square(points - points[chosen[-1]]).sum(1))
    return points[chosen]
