"""Our method: samples of recently popular targets, and among these the samples that lift targets within reach of a list.

A weighted draw: the log weight of a sample is DSIR's, log p(recent) / p(pool) of its target, plus twice the rank of its influence on the
ranking risk (`influence.objective = "ranking"`). The most influential sample of an item is exp(2) = 7.4 times as likely
as the least. It is a draw and not a cut, so every sample has a chance. docs/decisions/selection.md has what else was
tried.
"""

import numpy as np

from dealrec_core.coreset.base import Choice, Options, Pool, highest
from dealrec_core.coreset.combine import normalise
from dealrec_core.coreset.dsir import log_weights

INFLUENCE_WEIGHT = 2
"""Weight of the rank of influence, 0 to 1, in the log weight."""


def choose(pool: Pool, options: Options) -> Choice:
    """Draws without replacement by the weights, from each sample's `item` (N,), the recent `item` (M,) and influence."""
    scores = log_weights(pool.feature("item"), pool.aim("item"))
    scores += INFLUENCE_WEIGHT * normalise(pool.influence, "rank")
    luck = np.random.default_rng(options.seed).gumbel(size=len(pool))
    return Choice(highest(scores + luck, options.budget), scores, np.zeros(len(pool), dtype=np.int64))
