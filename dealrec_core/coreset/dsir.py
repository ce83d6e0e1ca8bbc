"""DSIR (Xie et al., NeurIPS 2023): importance resampling, so that the targets of chosen samples follow the recent targets.

Their features are hashed word n-grams of documents; ours is the target item, which is what drifts in a log of interactions.
"""

import numpy as np

from dealrec_core.coreset.base import Choice, Options, Pool, highest

SMOOTHING = 0.1
"""Weight of the pool's own distribution against that of the recent targets: an item without recent targets keeps a small chance."""


def choose(pool: Pool, options: Options) -> Choice:
    """Draws without replacement by weight p(recent) / p(pool) of each sample's `item` (N,), against the recent `item` (M,).

    The draw is the highest log weight + Gumbel noise (their section 3), which is a weighted draw without replacement.
    """
    scores = log_weights(pool.feature("item"), pool.aim("item"))
    luck = np.random.default_rng(options.seed).gumbel(size=len(pool))
    return Choice(highest(scores + luck, options.budget), scores, np.zeros(len(pool), dtype=np.int64))


def log_weights(items: np.ndarray, recent: np.ndarray) -> np.ndarray:
    """log p(recent) / p(pool) of each sample's item, (N,), from item numbers (N,) and recent ones (M,).

    p(pool) is the share of the samples with that item; p(recent) = (share of the recent with it + s · p(pool)) / (1 + s), so that
    no weight is 0. Recent items that no sample has are dropped, because nothing could be drawn for them.
    """
    items, recent = items.astype(np.int64), recent.astype(np.int64)
    sizes = np.bincount(items, minlength=1 + recent.max(initial=0))
    hits = np.where(sizes > 0, np.bincount(recent, minlength=len(sizes)), 0)
    recent_share = hits / max(int(hits.sum()), 1)
    ratio = np.divide(recent_share * len(items), sizes, out=np.zeros(len(sizes)), where=sizes > 0)
    return np.log((ratio + SMOOTHING) / (1 + SMOOTHING))[items]
