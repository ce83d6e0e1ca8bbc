"""Does a score predict what retraining does? Leave-one-out and random-half refits of a small surrogate.

What a study does with them is in dealrec_core/study/fidelity.py. A refit minimises (1/|S|) Σ_{s in S} L(s) +
(decay / 2) ‖θ‖² by full-batch Adam from one start: nothing in it is random, so two refits differ by their samples alone.
The linear datamodelling score (LDS; Park et al. 2023, "TRAK", section 2) is the rank correlation, over random halves, of
the summed scores of what was left out with the risk that resulted.
"""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import rankdata
from torch import Tensor

from dealrec_core.errors import DataError, NotFinite
from dealrec_core.influence import losses
from dealrec_core.samples.sequences import Sequences

Fit = Callable[[Sequences], Any]
"""A model fitted to the samples, without chance."""


class RefitConfig(BaseModel):
    """How the small surrogate is fitted again."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: int = Field(default=100, ge=1, title="Steps of Adam")
    """Over all samples at once, the step size falling to zero as a cosine."""
    learning_rate: float = Field(default=3e-2, gt=0, title="Learning rate")
    """Of the first step."""
    decay: float = Field(default=1e-2, ge=0, title="Weight decay")
    """Of the objective; it is added to every eigenvalue of its Hessian."""


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its 95% bootstrap interval over refits."""

    value: float
    low: float
    high: float


def refit(model: Any, samples: Sequences, config: RefitConfig) -> Any:
    """A copy of `model`, fitted to the samples from its present weights and in their precision."""
    found = copy.deepcopy(model).eval()
    optimiser = torch.optim.Adam(found.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    batches = list(samples.batches(2**16))
    for _ in range(config.steps):
        optimiser.zero_grad()
        _objective(found, batches, decay=config.decay).backward()
        optimiser.step()
        schedule.step()
    return found


def slope_left(model: Any, samples: Sequences, config: RefitConfig) -> float:
    """Norm of the objective's gradient: 0 at the optimum that the scores suppose."""
    found = copy.deepcopy(model).eval()
    _objective(found, list(samples.batches(2**16)), decay=config.decay).backward()
    return torch.cat([weight.grad.flatten() for weight in found.parameters()]).norm().item()


def risk_of(model: Any, samples: Sequences) -> float:
    """Mean softmax loss of the samples.

    Raises:
        NotFinite: it is NaN or infinite.
    """
    with torch.no_grad():
        found = _objective(model, list(samples.batches(2**16)), decay=0.0).item()
    if not math.isfinite(found):
        raise NotFinite(f"the risk after a refit is {found}; lower the learning rate of refits or raise their decay")
    return found


def _objective(model: Any, batches: list[tuple[np.ndarray, Tensor, Tensor]], *, decay: float) -> Tensor:
    loss = losses.build("softmax", item_count=model.item_count, negatives=1, seed=0)
    table = model.item_table()
    values = torch.cat([loss.values(model.last(histories, table), table, targets) for _, histories, targets in batches])
    return values.mean() + decay / 2 * torch.stack([weight.square().sum() for weight in model.parameters()]).sum()


def halves(count: int, *, subsets: int, seed: int) -> np.ndarray:
    """Which of `count` samples each refit keeps, bool (subsets, N): exactly half of them, drawn anew each time."""
    random = np.random.default_rng(seed)
    orders = np.stack([random.permutation(count) for _ in range(subsets)])
    return orders < count // 2


def half_risks(fit: Fit, train: Sequences, risk: Sequences, *, kept: np.ndarray) -> np.ndarray:
    """Risk (subsets,) after a fit to each half."""
    return np.array([risk_of(fit(train.take(np.flatnonzero(rows))), risk) for rows in kept])


def left_out_sums(scores: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """What the scores (N,) predict for each refit (subsets,), up to a constant: the sum over what was left out."""
    return (~kept).astype(float) @ scores


def leave_one_out(fit: Fit, train: Sequences, risk: Sequences, *, rows: np.ndarray) -> np.ndarray:
    """Rise of the risk (len(rows),) when each sample is left out of a fit."""
    before = risk_of(fit(train), risk)
    rest = (np.delete(np.arange(len(train)), row) for row in rows)
    return np.array([risk_of(fit(train.take(kept)), risk) - before for kept in rest])


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
            raise DataError(f"{len(left)} pairs for a rank correlation, wanted at least 3; refit more often")
    random = np.random.default_rng(seed)
    others: Sequence[np.ndarray | None] = [None] * len(studies) if baselines is None else list(baselines)
    values, draws = [], []
    for (left, right), other in zip(studies, others, strict=True):
        drawn = random.integers(len(left), size=(resamples, len(left)))
        values.append(_gain(left, right, other))
        draws.append(_gain(left[drawn], right[drawn], None if other is None else other[drawn]))
    low, high = np.percentile(np.mean(draws, axis=0), [2.5, 97.5])
    return Correlation(float(np.mean(values)), float(low), float(high))


def _gain(left: np.ndarray, right: np.ndarray, other: np.ndarray | None) -> np.ndarray:
    return spearman(left, right) - (0.0 if other is None else spearman(other, right))


def spearman(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Along the last axis; 0 where one side is constant."""
    first, second = (_centred(rankdata(values, axis=-1)) for values in (left, right))
    spread = np.sqrt((first**2).sum(-1) * (second**2).sum(-1))
    return np.divide((first * second).sum(-1), spread, out=np.zeros_like(spread), where=spread > 0)


def _centred(ranks: np.ndarray) -> np.ndarray:
    return ranks - ranks.mean(-1, keepdims=True)
