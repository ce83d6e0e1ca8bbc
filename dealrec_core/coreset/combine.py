"""Puts influence and effort on one scale and adds them."""

from typing import Literal

import numpy as np

Normalisation = Literal["rank", "minmax", "robust", "none"]


def combine(
    influence: np.ndarray, effort: np.ndarray, *, effort_weight: float, normalisation: Normalisation
) -> tuple[np.ndarray, float]:
    """Overall scores (N,) and the share of their variance that is due to effort.

    Eq. 13: I_s = I(s) + lambda * delta_s. The paper adds the raw numbers, whose scales have nothing to do with each other; the
    released code puts both on 0..1 first (`minmax`), where one outlier decides. `rank` uses ranks from 0 to 1 instead.
    The share is cov(lambda * delta, I_s) / var(I_s), 0 when all scores are equal.
    """
    scaled_influence = normalise(influence, normalisation)
    weighted_effort = effort_weight * normalise(effort, normalisation)
    overall = scaled_influence + weighted_effort
    variance = overall.var()
    share = (
        float(((weighted_effort - weighted_effort.mean()) * (overall - overall.mean())).mean() / variance)
        if variance > 0
        else 0.0
    )
    return overall, share


def normalise(values: np.ndarray, how: Normalisation) -> np.ndarray:
    """The values (N,) on a common scale; equal values stay equal, and all-equal values become zeros (except with `none`)."""
    if how == "none" or len(values) == 0:
        return values.astype(np.float64)
    if how == "minmax":
        return _divided(values - values.min(), np.ptp(values))
    if how == "robust":
        middle = np.median(values)
        return _divided(values - middle, 1.4826 * np.median(np.abs(values - middle)))
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts + 1) / 2
    return _divided(mean_rank[place] - mean_rank[0], mean_rank[-1] - mean_rank[0])


def _divided(values: np.ndarray, by: float) -> np.ndarray:
    return values / by if by > 0 else np.zeros(len(values))
