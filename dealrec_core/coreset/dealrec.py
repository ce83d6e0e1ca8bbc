"""DEALRec (Lin et al., SIGIR 2024, section 3, Algorithm 2): influence plus effort, drawn with coverage over score groups."""

import numpy as np

from dealrec_core.coreset import stratify
from dealrec_core.coreset.base import Choice, Options, Pool, highest
from dealrec_core.coreset.combine import combine
from dealrec_core.settings.coreset import Normalisation


def choose(pool: Pool, options: Options) -> Choice:
    """Groups of equal score width, the smallest served first, over the sum of the raw scores as the paper prints it."""
    scores, share = overall(pool, options, own="none")
    return stratified(scores, options, share=share)


def overall(pool: Pool, options: Options, *, own: Normalisation = "rank") -> tuple[np.ndarray, float]:
    """Eq. 13 on the scale of the options, else on the method's own, and the share of its variance that is due to effort."""
    return combine(
        pool.influence,
        pool.effort,
        effort_weight=options.effort_weight,
        normalisation=options.normalisation or own,
        influence_weight=options.influence_weight,
    )


def stratified(scores: np.ndarray, options: Options, *, share: float = 0.0) -> Choice:
    """Algorithm 2 on any scores (N,), after the hard prune of the options."""
    if not options.hard_prune:
        membership = stratify.groups(scores, options.groups)
        taken = stratify.allot(np.bincount(membership, minlength=options.groups), options.budget)
        return Choice(stratify.draw(membership, taken, seed=options.seed), scores, membership, share)
    eligible = pruned(scores, options)
    membership = np.zeros(len(scores), dtype=np.int64)
    membership[eligible] = stratify.groups(scores[eligible], options.groups)
    return Choice(stratify.spread(membership, eligible, options.budget, seed=options.seed), scores, membership, share)


def with_own_prune(options: Options, share: float) -> Options:
    """The options with a method's own share to drop, where they name none."""
    return options.model_copy(update={"hard_prune": share}) if options.hard_prune is None else options


def pruned(scores: np.ndarray, options: Options) -> np.ndarray:
    """Rows, sorted, without the top `hard_prune` share by score (released code, not in the paper).

    Never fewer than the budget, which is always spent. Among equal scores the first are dropped.
    """
    dropped = min(int(len(scores) * (options.hard_prune or 0)), len(scores) - options.budget)
    eligible = np.ones(len(scores), dtype=bool)
    eligible[highest(scores, dropped)] = False
    return np.flatnonzero(eligible)
