"""The largest entries of each row of a sparse matrix."""

import numpy as np
from scipy import sparse


def nearest(similarity: sparse.csr_matrix, neighbours: int) -> sparse.csr_matrix:
    """The matrix (V, V) with the `neighbours` largest entries of each row; of equal entries, those of lower columns."""
    similarity.sort_indices()
    rows = np.repeat(np.arange(similarity.shape[0]), np.diff(similarity.indptr))
    order = np.lexsort((similarity.indices, -similarity.data, rows))
    rank = np.arange(len(order)) - similarity.indptr[rows[order]]
    largest = order[rank < neighbours]
    entries = (similarity.data[largest], (rows[largest], similarity.indices[largest]))
    return sparse.csr_matrix(entries, shape=similarity.shape)
