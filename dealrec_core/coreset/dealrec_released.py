"""DEALRec's selection as released (code/prune/prune.py of the authors' repository), edge rounding included.

By default both scores are min-maxed and the top tenth is dropped, as in the released run. Beside that it differs from
the paper's rule in its groups: they are closed on the right, and their edges are float32 sums compared with `<=`. Where the
last edge is rounded below the largest score, that score is in no group and is never chosen, unless the budget needs it.
"""

import numpy as np

from dealrec_core.coreset import stratify
from dealrec_core.coreset.base import Choice, Options, Pool
from dealrec_core.coreset.dealrec import overall, pruned, with_own_prune


def choose(pool: Pool, options: Options) -> Choice:
    """Algorithm 2 over the released groups."""
    options = with_own_prune(options, 0.1)
    scores, share = overall(pool, options, own="minmax")
    eligible = pruned(scores, options)
    membership = np.zeros(len(scores), dtype=np.int64)
    membership[eligible] = groups(scores[eligible].astype(np.float32), options.groups)
    grouped = eligible[membership[eligible] < options.groups]
    rows = stratify.spread(membership, grouped, options.budget, seed=options.seed)
    ungrouped = eligible[membership[eligible] == options.groups][: options.budget - len(rows)]
    # The released code returns fewer samples than the budget here; we always spend the budget.
    return Choice(np.sort(np.concatenate([rows, ungrouped])), scores, membership, share)


def groups(scores: np.ndarray, count: int) -> np.ndarray:
    """The group 0..count-1 of each score (N,) float32: the first whose right edge is not below it; `count` if there is none."""
    low, high = scores.min(), scores.max()
    width = (high - low) / np.float32(count)
    edges = np.minimum(low + width * np.arange(1, count + 1, dtype=np.float32), high)
    return np.searchsorted(edges, scores, side="left")
