"""GraNd (Paul et al., NeurIPS 2021, "Deep Learning on a Data Diet"): the samples with the largest expected gradient norm."""

from dealrec_core.coreset.base import Choice, Options, Pool, ungrouped


def choose(pool: Pool, options: Options) -> Choice:
    """The highest mean of `grand`, (N,) or (N, E) gradient norms over early epochs and initialisations."""
    norms = pool.feature("grand")
    return ungrouped(norms if norms.ndim == 1 else norms.mean(axis=1), options.budget)
