"""DEALRec (Lin et al., SIGIR 2024, section 3, Algorithm 2): influence plus effort, drawn with coverage over score groups."""

import numpy as np

from dealrec_core.coreset import stratify
from dealrec_core.coreset.base import Choice, Options, Pool, highest
from dealrec_core.coreset.combine import combine


def choose(pool: Pool, options: Options) -> Choice:
    """Groups of equal score width, the smallest served first."""
    scores, share = overall(pool, options)
    return stratified(scores, options, share=share)


def overall(pool: Pool, options: Options) -> tuple[np.ndarray, float]:
    """Eq. 13 on a common scale, and the share of its variance that is due to effort."""
    return combine(
        pool.influence,
        pool.effort,
        effort_weight=options.effort_weight,
        normalisation=options.normalisation,
        influence_weight=options.influence_weight,
    )


def stratified(scores: np.ndarray, options: Options, *, share: float = 0.0) -> Choice:
    """Algorithm 2 on any scores (N,), after the hard prune of the options."""
    if options.hard_prune == 0:
        membership = stratify.groups(scores, options.groups)
        taken = stratify.allot(np.bincount(membership, minlength=options.groups), options.budget)
        return Choice(stratify.draw(membership, taken, seed=options.seed), scores, membership, share)
    eligible = pruned(scores, options)
    membership = np.zeros(len(scores), dtype=np.int64)
    membership[eligible] = stratify.groups(scores[eligible], options.groups)
    return Choice(stratify.spread(membership, eligible, options.budget, seed=options.seed), scores, membership, share)


def pruned(scores: np.ndarray, options: Options) -> np.ndarray:
    """Rows, sorted, without the top `hard_prune` share by score (released code, not in the paper).

    Never fewer than the budget, which is always spent. Of equal scores the first are dropped.
    """
    dropped = min(int(len(scores) * options.hard_prune), len(scores) - options.budget)
    eligible = np.ones(len(scores), dtype=bool)
    eligible[highest(scores, dropped)] = False
    return np.flatnonzero(eligible)
