"""EL2N (Paul et al., NeurIPS 2021, "Deep Learning on a Data Diet"): the samples with the largest error norm."""

from dealrec_core.coreset.base import Choice, Options, Pool, ungrouped


def choose(pool: Pool, options: Options) -> Choice:
    """The highest `el2n` (N,), the mean error norm over early epochs and initialisations."""
    return ungrouped(pool.feature("el2n"), options.budget)
