"""Does a score predict what retraining does? Leave-one-out and random-half refits of a small surrogate.

dealrec_core/study/fidelity.py makes a study of them. A refit minimises (1/|S|) Σ_{s in S} L(s) +
(decay / 2) ‖θ‖² by full-batch Adam from one start: nothing in it is random, so two refits differ by their samples alone.
The linear datamodelling score (LDS; Park et al. 2023, "TRAK", section 2) is the rank correlation, over random halves, of
the summed scores of the samples left out with the resulting risk.
"""

import copy
import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from pydantic import Field
from scipy.stats import ConstantInputWarning, pearsonr, rankdata
from torch import Tensor

from dealrec_core.errors import DataError, NotFinite
from dealrec_core.evaluation.comparison import Difference, interval, resampled
from dealrec_core.influence import losses
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.section import Section

Fit = Callable[[Sequences], Any]
"""Returns a model fitted to the samples; no chance is involved."""


class RefitConfig(Section):
    """Settings of one refit of the small surrogate."""

    steps: int = Field(default=100, ge=1, title="Steps of Adam")
    """Each step sees all samples at once; the step size falls to zero as a cosine."""
    learning_rate: float = Field(default=3e-2, gt=0, title="Learning rate")
    """Step size of the first step."""
    decay: float = Field(default=1e-2, ge=0, title="Weight decay")
    """Weight decay of the objective: it is added to every eigenvalue of its Hessian."""


def refit(model: Any, samples: Sequences, config: RefitConfig) -> Any:
    """A copy of `model`, fitted to the samples from its present weights and in their precision."""
    fitted = copy.deepcopy(model).eval()
    optimiser = torch.optim.Adam(fitted.parameters(), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.steps)
    batches = list(samples.batches(2**16))
    for _ in range(config.steps):
        optimiser.zero_grad()
        _objective(fitted, batches, decay=config.decay).backward()
        optimiser.step()
        schedule.step()
    return fitted


def slope_left(model: Any, samples: Sequences, config: RefitConfig) -> float:
    """Norm of the objective's gradient: 0 at the optimum that the scores suppose."""
    network = copy.deepcopy(model).eval()
    _objective(network, list(samples.batches(2**16)), decay=config.decay).backward()
    return torch.cat([weight.grad.flatten() for weight in network.parameters()]).norm().item()


def risk_of(model: Any, samples: Sequences) -> float:
    """Mean softmax loss of the samples.

    Raises:
        NotFinite: it is NaN or infinite.
    """
    with torch.no_grad():
        risk = _objective(model, list(samples.batches(2**16)), decay=0.0).item()
    if not math.isfinite(risk):
        raise NotFinite(f"the risk after a refit is {risk}; lower the learning rate of refits or raise their decay")
    return risk


def _objective(model: Any, batches: list[tuple[np.ndarray, Tensor, Tensor]], *, decay: float) -> Tensor:
    loss = losses.build("softmax", item_count=model.item_count, negatives=1, seed=0)
    table = model.item_table()
    values = torch.cat([loss.values(model.last(histories, table), table, targets) for _, histories, targets in batches])
    return values.mean() + decay / 2 * torch.stack([weight.square().sum() for weight in model.parameters()]).sum()


def halves(count: int, *, subsets: int, seed: int) -> np.ndarray:
    """Marks, bool (subsets, N), the samples that each refit learns from: exactly half of `count`, drawn anew each time."""
    random = np.random.default_rng(seed)
    orders = np.stack([random.permutation(count) for _ in range(subsets)])
    return orders < count // 2


def half_risks(fit: Fit, train: Sequences, risk: Sequences, *, learnt: np.ndarray) -> np.ndarray:
    """Risk (subsets,) after a fit to each half; learnt: bool (subsets, N), as `halves` gives it."""
    return np.array([risk_of(fit(train.take(np.flatnonzero(half))), risk) for half in learnt])


def left_out_sums(scores: np.ndarray, learnt: np.ndarray) -> np.ndarray:
    """Prediction of the scores (N,) for each refit (subsets,), up to a constant: their sum over the samples left out."""
    return (~learnt).astype(float) @ scores


def leave_one_out(fit: Fit, train: Sequences, risk: Sequences, *, rows: np.ndarray) -> np.ndarray:
    """Rise of the risk (len(rows),) when each sample is left out of a fit."""
    before = risk_of(fit(train), risk)
    others = (np.delete(np.arange(len(train)), row) for row in rows)
    return np.array([risk_of(fit(train.take(rest)), risk) - before for rest in others])


def mean_rank_correlation(
    starts: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    seed: int,
    baselines: Sequence[np.ndarray] | None = None,
    resamples: int = 1000,
) -> Difference:
    """Mean over starts of Spearman's correlation of (predicted, happened), each start resampled by itself.

    baselines: other predictions for each start. Their correlation is subtracted on the same draws, so that the interval
    is one of the paired difference.

    Raises:
        DataError: a start has fewer than three pairs.
    """
    for predicted, _ in starts:
        if len(predicted) < 3:
            raise DataError(
                f"{len(predicted)} pairs are too few for a rank correlation, which needs 3; refit more often"
            )
    random = np.random.default_rng(seed)
    others: Sequence[np.ndarray | None] = [None] * len(starts) if baselines is None else baselines
    values, draws = [], []
    for (predicted, happened), baseline in zip(starts, others, strict=True):
        gain = partial(_gain, predicted, happened, baseline)
        values.append(gain(np.arange(len(predicted))))
        draws.append(resampled(gain, len(predicted), resamples=resamples, random=random))
    return interval(float(np.mean(values)), np.mean(draws, axis=0))


def _gain(predicted: np.ndarray, happened: np.ndarray, baseline: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
    correlation = spearman(predicted[rows], happened[rows])
    return correlation if baseline is None else correlation - spearman(baseline[rows], happened[rows])


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation along the last axis; 0 where one side is constant."""
    ranks = (rankdata(values, axis=-1) for values in (first, second))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)  # a resample of few pairs is often constant
        return np.nan_to_num(pearsonr(*ranks, axis=-1).statistic)
