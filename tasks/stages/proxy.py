"""Tells every night whether its coreset is better than random ones of its size, by a cheap proxy."""

import polars as pl

from dealrec_core.evaluation import proxy
from dealrec_core.lake.nights import Fact, Snapshot
from dealrec_core.samples import split
from tasks.stage import stage
from tasks.stages.fine_tune import newest_samples, remembered
from tasks.tonight import Tonight

SEEDS = 3
"""Proxies trained on each side."""


@stage("proxy")
def compare_with_random(tonight: Tonight) -> Snapshot:
    """Records the word (better, worse, no difference shown), both means and the interval of their difference."""
    config = tonight.config.algorithms.evaluation
    kept = tonight.validation.filter(split.kept_back())
    frames = tonight.coreset, tonight.train, tonight.validation if kept.is_empty() else kept, tonight.cases
    beside = pl.concat([remembered(tonight), newest_samples(tonight.validation, tonight)])
    item_ids, seed = tonight.surrogate[1], tonight.config.run.seed
    comparison = proxy.compare(*frames, item_ids, beside=beside, evaluation=config, seeds=SEEDS, seed=seed)
    gap = comparison.gap
    facts: dict[str, Fact] = {
        "comparison": f"{comparison.word}: proxy ndcg@{config.k} {comparison.chosen:.4f} against {comparison.random:.4f} "
        f"of random, {gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}], {comparison.seeds} seeds",
        "word": comparison.word,
        "learnt beside the coreset": len(beside),
        **{name: round(value, 6) for name, value in (("gain", gap.mean), ("low", gap.low), ("high", gap.high))},
    }
    return Snapshot(stage="proxy", rows=len(tonight.coreset), facts=facts)
