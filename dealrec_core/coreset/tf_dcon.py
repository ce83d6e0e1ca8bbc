"""TF-DCon's user selection (Wu et al. 2023, as used by DEALRec): samples nearest to cluster centres, in proportion."""

import numpy as np

from dealrec_core.coreset import stratify
from dealrec_core.coreset.base import Choice, Options, Pool
from dealrec_core.samples.clusters import k_means, nearest


def choose(pool: Pool, options: Options) -> Choice:
    """k-means on [`user` (N, D) ; `text` (N, E)], surrogate vector and language model embedding; nearest to each centre."""
    points = np.concatenate([pool.feature("user"), pool.feature("text")], axis=1).astype(np.float64)
    random = np.random.default_rng(options.seed)
    centres = k_means(points, count=options.groups, iterations=50, random=random)
    own = nearest(points, centres)
    gaps = np.linalg.norm(points - centres[own], axis=1)
    taken = stratify.proportional(np.bincount(own, minlength=len(centres)), options.budget)
    order = np.lexsort((gaps, own))
    starts = np.cumsum(np.bincount(own, minlength=len(centres))) - np.bincount(own, minlength=len(centres))
    place = np.arange(len(order)) - starts[own[order]]
    return Choice(np.sort(order[place < taken[own[order]]]), -gaps, own)
