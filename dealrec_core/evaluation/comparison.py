"""Is one recommender better than another on the same users? One paired bootstrap for the gate, the proxy and every study."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dealrec_core.errors import DataError

_CELLS = 2**20  # rows drawn in one block: 8 MB


@dataclass(frozen=True)
class Difference:
    """An estimate with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13)."""

    mean: float
    low: float
    high: float
    p: float
    """Two-sided: twice the smaller share of resamples on either side of zero, never below 1 / resamples."""
    above: float
    """Share of resamples above the threshold."""


def difference(
    first: np.ndarray,
    second: np.ndarray,
    *,
    resamples: int,
    seed: int,
    confidence: float = 0.95,
    threshold: float = 0.0,
) -> Difference:
    """Mean of first − second with an interval over users and, where there are several, over seeds.

    first, second: values of the same users in the same order, (U,) or (S, U) for S seeds. Seeds and users are drawn
    independently, with replacement (Owen 2007, the pigeonhole bootstrap); with one seed only users are drawn, and the
    interval says nothing about other seeds.

    Raises:
        DataError: the shapes differ, or there is no user or no seed.

    >>> candidate, champion = [1.0, 1.0, 0.0, 1.0], [0.5, 0.5, 0.0, 0.5]
    >>> gain = difference(np.array(candidate), np.array(champion), resamples=1000, seed=0)
    >>> gain.mean  # (0.5 + 0.5 + 0 + 0.5) / 4
    0.375
    >>> gain.low < gain.mean < gain.high
    True
    """
    if first.shape != second.shape or first.ndim not in (1, 2) or first.size == 0:
        raise DataError(
            f"values of shapes {first.shape} and {second.shape} cannot be compared in pairs; evaluate both on the same cases"
        )
    gaps = np.atleast_2d(first - second)
    seeds, users = gaps.shape
    random = np.random.default_rng(seed)

    def mean(rows: np.ndarray) -> np.ndarray:
        by_seed = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=len(rows)) / seeds  # (R, S)
        return np.take_along_axis(by_seed @ gaps, rows, axis=1).mean(axis=1)

    means = resampled(mean, users, resamples=resamples, random=random)
    return interval(float(gaps.mean()), means, confidence=confidence, threshold=threshold)


def resampled(
    statistic: Callable[[np.ndarray], np.ndarray], count: int, *, resamples: int, random: np.random.Generator
) -> np.ndarray:
    """The statistic (resamples,) of `count` rows drawn with replacement: it gets row numbers (R, count), gives (R,)."""
    step = max(1, _CELLS // count)
    sizes = (min(step, resamples - start) for start in range(0, resamples, step))
    return np.concatenate([statistic(random.integers(count, size=(size, count))) for size in sizes])


def interval(mean: float, draws: np.ndarray, *, confidence: float = 0.95, threshold: float = 0.0) -> Difference:
    """An estimate with the percentile interval of its resamples (R,)."""
    tail = round((1 - confidence) / 2, 12)  # 0.025, not 0.025000000000000022
    low, high = np.quantile(draws, [tail, 1 - tail])
    p = 2 * min((draws <= 0).mean(), (draws >= 0).mean())
    return Difference(
        mean=mean,
        low=float(low),
        high=float(high),
        p=float(min(1, max(p, 1 / len(draws)))),
        above=float((draws > threshold).mean()),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): the i-th smallest of m times m − i + 1, never falling, at most 1.

    >>> holm([0.04, 0.01, 0.02])  # 3 · 0.01, 2 · 0.02, 1 · 0.04
    [0.04, 0.03, 0.04]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * float(p_values[place])))
        adjusted[place] = largest
    return adjusted.tolist()
