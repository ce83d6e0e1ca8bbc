"""Does a score predict what retraining does? Leave-one-out and random-half refits of a small surrogate.

A refit minimises (1/|S|) Σ_{s in S} L(s) + (decay / 2) ‖θ‖² by full-batch Adam from one start: nothing in it is
random, so two refits differ by their samples alone. The linear datamodelling score (LDS; Park et al. 2023, "TRAK",
section 2) is the rank correlation, over random halves, of the summed scores of what was left out with the risk that
resulted.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from dealrec_core.errors import DataError, NotFinite
from dealrec_core.influence import losses
from dealrec_core.sequences import Sequences


class FidelityConfig(BaseModel):
    """How often and how long the small surrogate is fitted again."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    subsets: int = Field(default=64, ge=3, title="Random halves")
    """Refits on a random half of the samples."""
    left_out: int = Field(default=64, ge=3, title="Samples left out one by one")
    """Refits without one sample."""
    steps: int = Field(default=300, ge=1, title="Steps of a refit")
    """Full-batch Adam steps, the step size falling to zero as a cosine."""
    learning_rate: float = Field(default=1e-2, gt=0, title="Learning rate")
    """Of the first step."""
    decay: float = Field(default=1e-3, ge=0, title="Weight decay")
    """Of the objective; it is added to every eigenvalue of its Hessian."""


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its 95% bootstrap interval over refits."""

    value: float
    low: float
    high: float


def refit(model: Any, samples: Sequences, *, config: FidelityConfig, steps: int | None = None) -> Any:
    """A copy of `model`, fitted to the samples from its present weights.

    Raises:
        NotFinite: the objective is NaN or infinite.
    """
    found = copy.deepcopy(model).eval()
    loss = losses.build("softmax", item_count=found.item_count, negatives=1, seed=0)
    batches = list(samples.batches(2**16))
    weights = list(found.parameters())
    steps = steps or config.steps
    optimiser = torch.optim.Adam(weights, lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        objective = torch.stack([weight.square().sum() for weight in weights]).sum() * (config.decay / 2)
        for _, histories, targets in batches:
            table = found.item_table()
            values = loss.values(found.last(histories, table), table, targets)
            objective = objective + values.sum() / len(samples)
        objective.backward()
        optimiser.step()
        schedule.step()
    if not torch.isfinite(objective):
        raise NotFinite(
            f"the objective of a refit is {objective.item()}; lower fidelity.learning_rate ({config.learning_rate:g})"
        )
    return found


def risk_of(model: Any, samples: Sequences) -> float:
    """Mean softmax loss of the samples."""
    loss = losses.build("softmax", item_count=model.item_count, negatives=1, seed=0)
    table = model.item_table().detach()
    with torch.no_grad():
        return sum(loss.total(model.last(x, table), table, y) for _, x, y in samples.batches(2**16)) / len(samples)


def halves(count: int, *, config: FidelityConfig, seed: int) -> np.ndarray:
    """Which of `count` samples each refit keeps, bool (subsets, N): exactly half of them, drawn anew each time."""
    random = np.random.default_rng(seed)
    orders = np.stack([random.permutation(count) for _ in range(config.subsets)])
    return orders < count // 2


def half_risks(
    start: Any, train: Sequences, risk: Sequences, *, kept: np.ndarray, config: FidelityConfig
) -> np.ndarray:
    """Risk (subsets,) after a refit from `start` on each half."""
    refits = (refit(start, train.take(np.flatnonzero(rows)), config=config) for rows in kept)
    return np.array([risk_of(model, risk) for model in refits])


def linear_datamodelling_score(scores: np.ndarray, kept: np.ndarray, risks: np.ndarray, *, seed: int) -> Correlation:
    """LDS of the scores (N,): do halves that leave out much influence end with a high risk?"""
    return rank_correlation(left_out_sums(scores, kept), risks, seed=seed)


def left_out_sums(scores: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """What the scores (N,) predict for each refit (subsets,), up to a constant: the sum over what was left out."""
    return (~kept).astype(float) @ scores


def leave_one_out(
    fitted: Any, train: Sequences, risk: Sequences, *, rows: np.ndarray, config: FidelityConfig
) -> np.ndarray:
    """Rise of the risk (len(rows),) when each sample is left out; all refits go on from `fitted` for equally long."""
    before = risk_of(refit(fitted, train, config=config), risk)
    rest = (np.delete(np.arange(len(train)), row) for row in rows)
    return np.array([risk_of(refit(fitted, train.take(kept), config=config), risk) - before for kept in rest])


def rank_correlation(left: np.ndarray, right: np.ndarray, *, seed: int, resamples: int = 1000) -> Correlation:
    """Spearman's correlation (ties share their mean rank), with a percentile bootstrap over the pairs.

    Raises:
        DataError: fewer than three pairs.
    """
    return mean_rank_correlation([(left, right)], seed=seed, resamples=resamples)


def mean_rank_correlation(
    studies: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    seed: int,
    baselines: Sequence[np.ndarray] | None = None,
    resamples: int = 1000,
) -> Correlation:
    """Mean of Spearman's correlation over studies, each resampled by itself; less that of `baselines` on the same
    draws, where given, so that the interval is one of the paired difference.

    Raises:
        DataError: a study has fewer than three pairs.
    """
    for left, _ in studies:
        if len(left) < 3:
            raise DataError(f"{len(left)} pairs for a rank correlation, wanted at least 3; raise fidelity.subsets")
    random = np.random.default_rng(seed)
    others: Sequence[np.ndarray | None] = [None] * len(studies) if baselines is None else list(baselines)
    values, draws = [], []
    for (left, right), other in zip(studies, others, strict=True):
        drawn = random.integers(len(left), size=(resamples, len(left)))
        values.append(_gain(left, right, other))
        draws.append([_gain(left[rows], right[rows], None if other is None else other[rows]) for rows in drawn])
    low, high = np.nanpercentile(np.mean(draws, axis=0), [2.5, 97.5])
    return Correlation(float(np.mean(values)), float(low), float(high))


def _gain(left: np.ndarray, right: np.ndarray, other: np.ndarray | None) -> float:
    return _spearman(left, right) - (0.0 if other is None else _spearman(other, right))


def _spearman(left: np.ndarray, right: np.ndarray) -> float:
    first, second = _ranks(left), _ranks(right)
    spread = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]
