"""LESS (Xia et al., ICML 2024): cosine of each sample's optimizer step to the gradients of recent samples."""

from dealrec_core.coreset.base import Choice, Options, Pool, ungrouped, unit


def choose(pool: Pool, options: Options) -> Choice:
    """The highest mean cosine of `adam_gradient` (N, P) to the reference `gradient` (M, P), both with one projection.

    Every reference gradient has one weight, whatever its length, as in the authors' code. One checkpoint and one target task; the
    paper warms up on 5% of the samples, sums over checkpoints by learning rate and takes the best of its tasks.
    """
    aim = unit(pool.aim("gradient")).mean(axis=0)
    return ungrouped(unit(pool.feature("adam_gradient")) @ aim, options.budget)
