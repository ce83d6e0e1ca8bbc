"""The overall score: influence plus weighted effort on a common scale."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from dealrec_core.coreset import ordering
from dealrec_core.settings.coreset import Normalisation


def combine(
    influence: np.ndarray,
    effort: np.ndarray,
    *,
    effort_weight: float,
    normalisation: Normalisation,
    influence_weight: float = 1.0,
) -> tuple[np.ndarray, float]:
    """Overall scores (N,) and the share of their variance that is due to effort.

    Eq. 13: I_s = I(s) + lambda * delta_s; an `influence_weight` of 0 is the ablation without influence. The paper adds the
    raw numbers, whose scales have nothing to do with each other; the released code puts both on 0..1 first (`minmax`),
    where one outlier decides. `rank` uses ranks from 0 to 1 instead.
    The share is cov(lambda * delta, I_s) / var(I_s), 0 when all scores are equal; the rest is due to influence.

    >>> scores, share = combine(np.array([1.0, 9.0]), np.array([2.0, 3.0]), effort_weight=0.5, normalisation="rank")
    >>> scores.tolist(), round(share, 3)  # 0 + 0.5 · 0 and 1 + 0.5 · 1
    ([0.0, 1.5], 0.333)
    """
    with ThreadPoolExecutor(2) as threads:
        scaled_influence, scaled_effort = threads.map(partial(normalise, how=normalisation), [influence, effort])
    weighted_effort = effort_weight * scaled_effort
    overall = influence_weight * scaled_influence + weighted_effort
    spread = overall - overall.mean()
    variance = float(spread @ spread)
    if variance == 0:
        return overall, 0.0
    return overall, float((weighted_effort - weighted_effort.mean()) @ spread) / variance


def normalise(values: np.ndarray, how: Normalisation) -> np.ndarray:
    """The values (N,) on a common scale; equal values stay equal, and all-equal values become zeros (except with `none`).

    >>> normalise(np.array([10.0, 20.0, 20.0]), "rank").tolist()  # ranks 0, 1.5 and 1.5
    [0.0, 1.0, 1.0]
    """
    if how == "none" or len(values) == 0:
        return values.astype(np.float64)
    if how == "minmax":
        return _divided(values - values.min(), np.ptp(values))
    if how == "robust":
        middle = np.median(values)
        return _divided(values - middle, 1.4826 * np.median(np.abs(values - middle)))
    ranks = _mean_ranks(values)
    return _divided(ranks - ranks.min(), np.ptp(ranks))


def _mean_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, (N,); equal values share the mean of their ranks."""
    order = ordering.argsort(ordering.keys(values))
    ascending = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ascending[1:] != ascending[:-1]]))
    ranks = np.empty(len(values))
    if len(starts) == len(values):
        ranks[order] = np.arange(len(values))
        return ranks
    sizes = np.diff(starts, append=len(values))
    ranks[order] = np.repeat(starts + (sizes - 1) / 2, sizes)
    return ranks


def _divided(values: np.ndarray, by: float) -> np.ndarray:
    return values / by if by > 0 else np.zeros(len(values))
