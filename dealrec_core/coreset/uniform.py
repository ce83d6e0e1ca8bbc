"""Random selection, uniform without replacement: the reference for every other method."""

import numpy as np

from dealrec_core.coreset.base import Choice, Options, Pool
from dealrec_core.coreset.dealrec import overall


def choose(pool: Pool, options: Options) -> Choice:
    """`budget` random rows; the scores are reported, not used."""
    scores, share = overall(pool, options)
    rows = np.random.default_rng(options.seed).choice(len(scores), options.budget, replace=False)
    return Choice(np.sort(rows), scores, np.zeros(len(scores), dtype=np.int64), share)
