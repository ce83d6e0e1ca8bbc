"""The highest overall scores, no coverage: the ablation of DEALRec (SIGIR 2024, section 4.3)."""

import numpy as np

from dealrec_core.coreset.base import Choice, Options, Pool, highest
from dealrec_core.coreset.dealrec import overall, pruned


def choose(pool: Pool, options: Options) -> Choice:
    """The first `budget` by score; of equal scores the first."""
    scores, share = overall(pool, options)
    eligible = pruned(scores, options)
    rows = eligible[highest(scores[eligible], options.budget)]
    return Choice(rows, scores, np.zeros(len(scores), dtype=np.int64), share)
