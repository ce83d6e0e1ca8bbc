"""EL2N (Paul et al., NeurIPS 2021, "Deep Learning on a Data Diet"): the samples with the largest error norm."""

import numpy as np

from dealrec_core.coreset.base import Choice, Options, Pool, ungrouped


def choose(pool: Pool, options: Options) -> Choice:
    """The highest `el2n` (N,), the mean error norm over early epochs and initialisations."""
    return ungrouped(pool.feature("el2n"), options.budget)


def error_norms(probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """‖p − onehot(y)‖₂ of each sample, (B,), from probabilities (B, V) and targets (B,)."""
    at_target = probabilities[np.arange(len(targets)), targets]
    squares = np.einsum("bv,bv->b", probabilities, probabilities)
    return np.sqrt(np.maximum(squares - 2 * at_target + 1, 0))  # (p_y − 1)² − p_y² = 1 − 2 p_y
