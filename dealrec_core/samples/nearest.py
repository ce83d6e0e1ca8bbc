"""The largest entries of each row of a sparse matrix."""

import numpy as np
from scipy import sparse


def nearest(similarity: sparse.csr_matrix, neighbours: int) -> sparse.csr_matrix:
    """Keeps so many of the largest entries of each row (V, V); of equal ones, those of lower columns."""
    similarity.sort_indices()
    rows = np.repeat(np.arange(similarity.shape[0]), np.diff(similarity.indptr))
    order = np.lexsort((similarity.indices, -similarity.data, rows))
    rank = np.arange(len(order)) - similarity.indptr[rows[order]]
    kept = order[rank < neighbours]
    return sparse.csr_matrix((similarity.data[kept], (rows[kept], similarity.indices[kept])), shape=similarity.shape)
