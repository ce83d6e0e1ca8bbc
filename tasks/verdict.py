"""Tells every night whether its coreset is better than random ones of its size, by a cheap proxy."""

from dealrec_core.evaluation import proxy
from dealrec_core.lake.nights import Fact, Night, Snapshot
from tasks.coreset import coreset_of
from tasks.evaluation import held_out_cases
from tasks.ingest import samples_of
from tasks.stage import stage
from tasks.surrogate import surrogate_of

SEEDS = 3
"""Proxies trained on each side."""


@stage("verdict")
def judge_coreset(night: Night) -> Snapshot:
    """Facts only: the verdict, both means and the interval of their difference."""
    _, item_ids = surrogate_of(night)
    chosen = coreset_of(night)
    found = proxy.compare(
        chosen,
        samples_of(night, "train"),
        samples_of(night, "validation"),
        held_out_cases(night),
        item_ids,
        evaluate=night.config.evaluate,
        seeds=SEEDS,
        seed=night.config.run.seed,
    )
    figures = f"{found.gap.mean:+.4f} [{found.gap.low:+.4f}, {found.gap.high:+.4f}]"
    facts: dict[str, Fact] = {
        "verdict": f"{found.word}: proxy ndcg@{night.config.evaluate.k} {found.chosen:.4f} against {found.random:.4f} "
        f"of random, {figures}, {found.seeds} seeds",
        "word": found.word,
        "gain": round(found.gap.mean, 6),
        "low": round(found.gap.low, 6),
        "high": round(found.gap.high, 6),
    }
    return Snapshot(stage="verdict", rows=len(chosen), facts=facts)
