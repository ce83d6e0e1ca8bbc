"""Is a method better than the reference? Paired over users and seeds, with Holm's correction over all questions asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dealrec_core.errors import DataError


@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its bootstrap interval and p-value."""

    mean: float
    low: float
    high: float
    p: float
    """Two-sided: twice the smaller share of resamples on either side of zero, never below 1 / resamples."""


def difference(first: np.ndarray, second: np.ndarray, *, confidence: float, resamples: int, seed: int) -> Difference:
    """Mean of first − second with a percentile bootstrap that draws seeds and users (Owen 2007, the pigeonhole bootstrap).

    first, second: (S, U), the same seeds and the same users in the same order. Seeds and users are drawn independently,
    with replacement; with one seed only users are drawn, and the interval says nothing about other seeds.

    Raises:
        DataError: the shapes differ, or there is no user or no seed.
    """
    if first.shape != second.shape or first.ndim != 2 or first.size == 0:
        raise DataError(f"{first.shape} and {second.shape} cannot be compared in pairs; wanted (seeds, users) twice")
    gaps = first - second
    seeds, users = gaps.shape
    random = np.random.default_rng(seed)
    means = np.empty(resamples)
    for start in range(0, resamples, 256):
        count = min(256, resamples - start)
        by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds  # (R, S)
        by_user = random.multinomial(users, np.full(users, 1 / users), size=count) / users  # (R, U)
        means[start : start + count] = ((by_seed @ gaps) * by_user).sum(1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    p = 2 * min((means <= 0).mean(), (means >= 0).mean())
    return Difference(float(gaps.mean()), float(low), float(high), float(min(1, max(p, 1 / resamples))))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): the i-th smallest of m times m − i + 1, never falling, at most 1."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    most = 0.0
    for rank, place in enumerate(order):
        most = max(most, min(1.0, (len(p_values) - rank) * float(p_values[place])))
        adjusted[place] = most
    return adjusted.tolist()
