"""TF-DCon's user selection (Wu et al. 2023, as used by DEALRec): samples nearest to cluster centres, in proportion."""

import numpy as np

from dealrec_core.coreset import stratify
from dealrec_core.coreset.base import Choice, Options, Pool
from dealrec_core.samples.clusters import k_means, nearest


def choose(pool: Pool, options: Options) -> Choice:
    """k-means on [`user` (N, D) ; `text` (N, E)], surrogate vector and language model embedding; nearest to each centre."""
    points = np.concatenate([pool.feature("user"), pool.feature("text")], axis=1).astype(np.float64)
    centres = k_means(points, count=options.groups, iterations=50, seed=options.seed)
    clusters = nearest(points, centres)
    gaps = np.linalg.norm(points - centres[clusters], axis=1)
    sizes = np.bincount(clusters, minlength=len(centres))
    taken = stratify.proportional(sizes, options.budget)
    order = np.lexsort((gaps, clusters))
    starts = np.cumsum(sizes) - sizes
    place = np.arange(len(order)) - starts[clusters[order]]
    return Choice(np.sort(order[place < taken[clusters[order]]]), -gaps, clusters)
