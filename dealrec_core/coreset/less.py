"""LESS (Xia et al., ICML 2024): cosine of each sample's optimizer step to the gradient of recent samples."""

from dealrec_core.coreset.base import Choice, Options, Pool, ungrouped, unit


def choose(pool: Pool, options: Options) -> Choice:
    """The highest cosine of `adam_gradient` (N, P) to the mean reference `gradient` (M, P), both projected alike.

    One checkpoint and one target task; the paper sums over checkpoints by learning rate and takes the best of its tasks.
    """
    aim = pool.aim("gradient").mean(axis=0, keepdims=True)
    return ungrouped((unit(pool.feature("adam_gradient")) @ unit(aim).T)[:, 0], options.budget)
