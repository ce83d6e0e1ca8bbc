"""Weights of the risk samples: all of them, or those whose target a list can hold.

    R = Σ w_i L(r_i) / Σ w_i
    loss      w_i = 1, the mean loss (paper)
    ranking   w_i = 1 where fewer than `reach` items stand before the target, else 0

On Games 91% of the recent targets are out of reach, and the scores for the mean loss are nearly the reverse of those for the
targets within reach (Spearman -0.91). The weight is a step and not the slope of DCG's discount D(r) = 1 / log2(r + 2), which gives half
of its weight to the first two places (D(0) - D(2) = 1/2): to a few samples that the surrogate predicts already.
"""

import numpy as np

from dealrec_core.influence import operators
from dealrec_core.influence.operators import Problem
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.influence import InfluenceConfig


def weights(problem: Problem, risk: Sequences, *, config: InfluenceConfig) -> np.ndarray:
    """The weight of each risk sample, float64 (M,); all 0 where no target is within reach."""
    if config.objective == "loss" or not len(risk):
        return np.ones(len(risk))
    return (operators.ranks(problem, risk) < config.reach).astype(np.float64)
