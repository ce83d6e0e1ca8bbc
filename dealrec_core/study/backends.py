"""Tunes a cell's model on its coreset: by a night's backend, or by a small surrogate as a cheap proxy of both."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.evaluation import proxy, ranking
from dealrec_core.language.device import device
from dealrec_core.recommenders import backend
from dealrec_core.recommenders.backend import Backend, ItemStatistics
from dealrec_core.samples.recommender import Recommender
from dealrec_core.samples.sequences import encode
from dealrec_core.settings.tree import Algorithms
from dealrec_core.study.config import StudyConfig
from dealrec_core.study.data import StudyData
from dealrec_core.surrogate.logits import blocks
from dealrec_core.surrogate.recommender import SurrogateRecommender

PROXY = "proxy"
LIKELIHOOD = "log_likelihood"


@dataclass(frozen=True)
class CellModel:
    """A recommender tuned on a coreset, and what tuning took."""

    recommender: Recommender
    log_likelihood: np.ndarray
    """Mean log-probability of a token (of an item, for the proxy) of each case's first target, (U,)."""
    tokens: int
    flops: float


def build(name: str, config: StudyConfig, *, seed: int | None = None) -> Backend:
    """The backend whose base all cells share; with a cell's seed, for tuning. The best epoch has the least loss."""
    sections = {section: getattr(config, section) for section in Algorithms.model_fields}
    sections["fine_tune"] = config.fine_tune.model_copy(update={"best_epoch_by": "loss"})
    sections["tiger"] = config.tiger.model_copy(update={"pretraining_epochs": config.pretraining_epochs})
    return backend.build(
        name, Algorithms(**sections), device=device(config.device), seed=config.seed if seed is None else seed
    )


def tuned(
    name: str, base: Path | str, chosen: pl.DataFrame, *, data: StudyData, config: StudyConfig, seed: int
) -> CellModel:
    """The base, tuned on the chosen samples."""
    if config.tuning_rate is not None:
        tiger = config.tiger.model_copy(update={"learning_rate": config.tuning_rate})
        config = config.model_copy(update={"tiger": tiger})
    opened = build(name, config, seed=seed).open(base, data.catalogue)
    held = data.recent.tail(config.fine_tune.validation_examples)
    model = opened.tune(chosen, held, ItemStatistics(data.counts))
    likelihood = backend.log_likelihoods(opened, model.recommender, _first_targets(data))
    return CellModel(model.recommender, likelihood, model.tokens, model.flops)


def tuned_proxy(chosen: pl.DataFrame, *, data: StudyData, config: StudyConfig, seed: int) -> CellModel:
    """A small SASRec trained on the chosen samples alone, for a fixed number of epochs; the best on recent samples."""
    item_ids = data.catalogue.item_ids
    settings = proxy.config(**config.proxy.model_dump())
    trained = proxy.fit(chosen, data.recent, item_ids, settings=settings, seed=seed, device=device(config.device))
    ranker = SurrogateRecommender(trained.model, item_ids, popular=ItemStatistics(data.counts).popular)
    tokens = int(chosen[schema.HISTORY].list.len().sum()) * trained.epochs
    parameters = sum(weight.numel() for weight in trained.model.parameters())
    cases = encode(_first_targets(data), item_ids)
    likelihood = np.empty(len(cases))
    for rows, _, logits, targets in blocks(trained.model, cases, batch_tokens=4096, cells=2**21):
        likelihood[rows] = logits.log_softmax(1).gather(1, targets)[:, 0].cpu().numpy()
    return CellModel(ranker, likelihood, tokens, 6.0 * parameters * tokens)


def cutoffs(config: StudyConfig) -> tuple[int, ...]:
    """The list length that decides, and the one that confirms."""
    return tuple(dict.fromkeys((config.cutoff, config.evaluation.k)))


def measured(model: CellModel, data: StudyData, config: StudyConfig) -> pl.DataFrame:
    """user_id, recall, ndcg and mrr at each cutoff (ndcg@100, …) and log_likelihood of every case, in the order of the cases.

    Every history is ranked once, to the longest cutoff; the shorter one is read off the same list.
    """
    lengths, cases = cutoffs(config), data.cases
    longest = config.evaluation.model_copy(update={"k": max(lengths)})
    lists = ranking.ranked(model.recommender, cases[schema.HISTORY].to_list(), longest)
    columns: dict[str, pl.Series | np.ndarray] = {schema.USER_ID: cases[schema.USER_ID]}
    for length in lengths:
        at = ranking.per_user("", lists, cases, config.evaluation.model_copy(update={"k": length}))
        columns |= {f"{metric}@{length}": at[metric] for metric in ("recall", "ndcg", "mrr")}
    return pl.DataFrame({**columns, LIKELIHOOD: model.log_likelihood})


def _first_targets(data: StudyData) -> pl.DataFrame:
    """The cases as samples of their first target; a user is a sample."""
    first = pl.col("targets").list.first().alias(schema.ITEM_ID)
    return data.cases.with_columns(first, pl.col(schema.USER_ID).alias(schema.SAMPLE_ID))
