"""DataInf (Kwon et al., ICLR 2024): influence with the inverse Hessian in closed form, layer by layer."""

import numpy as np

from dealrec_core.coreset.base import Choice, Options, Pool, ungrouped
from dealrec_core.errors import DataError


def choose(pool: Pool, options: Options) -> Choice:
    """The highest influence on the reference risk, summed over layers: `gradient` or `gradient.<layer>`, each (N, P)."""
    layers = sorted(name for name in pool.features if name.split(".")[0] == "gradient")
    if not layers:
        raise DataError("datainf needs a column 'gradient', or one 'gradient.<layer>' per layer")
    scores = sum((influence(pool.feature(layer), pool.aim(layer)) for layer in layers), np.zeros(len(pool)))
    return ungrouped(scores, options.budget)


def influence(gradients: np.ndarray, reference: np.ndarray, *, damping_share: float = 0.1) -> np.ndarray:
    """g_jᵀh of each sample (N,), large positive = keep, from gradients g (N, P) of one layer and of the reference (M, P).

    h = (1/(nλ)) Σ_i [v − g_i (g_iᵀv) / (λ + ‖g_i‖²)], v the mean reference gradient (section 3, Eq. 5): the mean of the
    inverses of λI + g_i g_iᵀ instead of the inverse of their mean. λ = damping_share · mean ‖g_i‖² / P: a tenth of the mean
    squared entry, as in the authors' released code.
    The paper's influence has the opposite sign: there, negative is helpful.
    """
    norms = np.einsum("np,np->n", gradients, gradients)
    damping = damping_share * norms.mean() / gradients.shape[1]
    if damping == 0:
        return np.zeros(len(gradients))
    aim = reference.mean(axis=0)
    pulls = gradients @ aim / (damping + norms)
    inverse = (aim - gradients.T @ pulls / len(gradients)) / damping
    return gradients @ inverse
