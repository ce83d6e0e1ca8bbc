"""Is a coreset better than random ones of its size? A cheap comparison by a proxy of the tuned language model.

The proxy is a SASRec of one block that learns the coreset and what else tonight's model learns. It knows no titles, so it is a hint, not a
proof: docs/study.md says how far a proxy of the coreset alone agreed with both backends on Games.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

from dealrec_core import schema
from dealrec_core.evaluation import ranking
from dealrec_core.evaluation.comparison import Difference, difference
from dealrec_core.language.progress import Progress, silent
from dealrec_core.samples import split
from dealrec_core.samples.recommender import Recommender
from dealrec_core.samples.sequences import encode
from dealrec_core.settings.evaluation import EvaluationConfig
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate.recommender import SurrogateRecommender
from dealrec_core.surrogate.training import Trained, train

Word = Literal["better", "worse", "no difference shown"]
DEPTH = 100
"""Items of a list that count. At 100 a gain is seen with a third of the users that it takes at 10."""
JUDGES = 10_000
"""Samples at most whose targets are ranked."""


@dataclass(frozen=True)
class Comparison:
    """A coreset against random coresets of its size, by the proxy's NDCG."""

    word: Word
    """The words better and worse need an interval that excludes zero."""
    chosen: float
    random: float
    gap: Difference
    seeds: int


def config(*, width: int = 32, epochs: int = 8, learning_rate: float = 5e-3) -> SurrogateConfig:
    """Settings of the proxy: one block and no early stop, so that the best of `epochs` epochs counts."""
    return SurrogateConfig(
        width=width, epochs=epochs, learning_rate=learning_rate, layers=1, heads=1, patience=1000, dropout=0.2
    )


def fit(
    coreset: pl.DataFrame,
    recent: pl.DataFrame,
    item_ids: list[str],
    *,
    settings: SurrogateConfig,
    seed: int,
    device: torch.device | str = "cpu",
) -> Trained:
    """The proxy, trained on these samples alone; recent samples choose its best epoch."""
    learnt, held = encode(coreset, item_ids), encode(recent, item_ids)
    return train(learnt, held, item_count=len(item_ids), config=settings, seed=seed, device=device)


def compare(
    coreset: pl.DataFrame,
    pool: pl.DataFrame,
    judges: pl.DataFrame,
    item_ids: list[str],
    *,
    beside: pl.DataFrame,
    evaluation: EvaluationConfig,
    seeds: int,
    seed: int,
    device: torch.device | str = "cpu",
    progress: Progress = silent,
) -> Comparison:
    """Trains, for each seed, a proxy on the coreset and one on a random coreset of its size, and compares their NDCG@100 by user.

    coreset, pool, beside, judges: SAMPLES columns. Both proxies also learn `beside`, and random coresets are drawn from the rest of the
    pool: a coreset would otherwise be praised for what the model learns anyway. judges: the samples whose targets are ranked, and by
    which either proxy chooses its best epoch; neither the method nor `beside` may have seen them. progress: called after each proxy.
    """
    ordered = pool.join(beside, on=schema.SAMPLE_ID, how="anti").sort(schema.SAMPLE_ID)
    random = np.random.default_rng(seed)
    judging = split.drawn(judges.sort(schema.SAMPLE_ID), JUDGES, random)
    values: dict[str, list[np.ndarray]] = {"chosen": [], "random": []}
    for run in range(seeds):
        rows = np.sort(random.choice(len(ordered), min(len(coreset), len(ordered)), replace=False))
        for name, samples in (("chosen", coreset.sort(schema.SAMPLE_ID)), ("random", ordered[rows])):
            learnt = pl.concat([samples, beside])
            trained = fit(learnt, judging, item_ids, settings=config(), seed=seed + run, device=device)
            values[name].append(_ndcg(trained.model, item_ids, judging, evaluation))
            progress(len(values["chosen"]) + len(values["random"]), 2 * seeds)
    first, second = np.stack(values["chosen"]), np.stack(values["random"])
    gap = difference(first, second, resamples=2000, seed=seed)
    word: Word = "better" if gap.low > 0 else "worse" if gap.high < 0 else "no difference shown"
    return Comparison(word, float(first.mean()), float(second.mean()), gap, seeds)


def _ndcg(model: Any, item_ids: list[str], judges: pl.DataFrame, evaluation: EvaluationConfig) -> np.ndarray:
    """Each user's mean NDCG@100 of the target of a sample, by user_id."""
    recommender: Recommender = SurrogateRecommender(model, item_ids, popular=item_ids[:DEPTH])
    cases = judges.select(schema.USER_ID, schema.HISTORY, pl.concat_list(schema.ITEM_ID).alias("targets"))
    ranked = ranking.evaluate(recommender, cases, evaluation.model_copy(update={"k": DEPTH}))
    return ranked.group_by(schema.USER_ID).agg(pl.col("ndcg").mean()).sort(schema.USER_ID)["ndcg"].to_numpy()
