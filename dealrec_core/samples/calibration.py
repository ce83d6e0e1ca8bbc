"""One calibration for every recommender: what items were worth lately corrects what a model has learnt they are worth.

    score(y | x) = log p(y | x) − alpha · log p_train(y) + beta · log p_recent(y) − title · log p(y | no history)

Dividing by the share of an item in training is logit adjustment (Menon et al. 2021, 2007.07314); multiplying by its recent
share puts the prior of the days ahead in its place. The last term makes of a title's probability the pointwise mutual
information of title and history (Li et al. 2016, 1510.03055), with a weight. With all weights 0 the scores stay as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.samples.recommender import Recommender

HALF_LIVES = (1.0, 0.25, 4.0)
"""Half-lives of the recent share, in lengths of the slice that is ranked."""
Scored = list[tuple[str, float]]
"""Items with the logarithm of their probability, up to a constant of the history, without any calibration."""


@dataclass(frozen=True)
class Weights:
    """How strongly each term counts."""

    alpha: float = 0.0
    beta: float = 0.0
    title: float = 0.0
    half_life: float = 1.0
    """Half-life of the recent share, in lengths of the slice that is ranked."""

    @property
    def size(self) -> float:
        """The sum of all weights; 0 leaves a recommender as it is."""
        return self.alpha + self.beta + self.title


@dataclass(frozen=True, eq=False)
class Calibration:
    """Number that is added to the log probability of each item."""

    weights: Weights
    added: Mapping[str, float]
    unknown: float
    """Added for an item that was not known when the calibration was made."""

    def of(self, item_ids: Sequence[str]) -> np.ndarray:
        """The additions of some items, float64 (V,)."""
        return np.array([self.added.get(item, self.unknown) for item in item_ids], dtype=np.float64)

    def described(self) -> dict[str, Any]:
        """The calibration as JSON holds it; `read` is the way back."""
        return asdict(self)


def read(described: Mapping[str, Any] | None) -> Calibration | None:
    """The calibration that a bundle holds; None for None, as bundles from before there were any have it."""
    if described is None:
        return None
    return Calibration(Weights(**described["weights"]), described["added"], described["unknown"])


class Calibrated(Recommender, Protocol):
    """A recommender whose scores a calibration can enter."""

    @property
    def title_chances(self) -> np.ndarray | None:
        """Log probability of each item's title without a history (V,), in the catalogue's order; None where it writes no titles."""
        ...

    def scored(self, histories: Sequence[Sequence[str]], k: int, calibration: Calibration | None) -> list[Scored]:
        """The k best items of each history under a calibration, best first, with their scores before it."""
        ...


@dataclass(frozen=True)
class Priors:
    """Priors of V items before a moment: logarithms of shares, each float64 (V,)."""

    item_ids: list[str]
    train: np.ndarray
    """Share of the interactions that the model learns from."""
    recent: Mapping[float, np.ndarray]
    """Share of all interactions before the moment, those of a half-life ago at half weight; by half-life."""
    titles: np.ndarray | None = None
    """Log probability of each item's title without a history; None for a model that writes no titles."""

    def added(self, weights: Weights) -> np.ndarray:
        """Returns the additions of these weights to the log probability of each item, float64 (V,)."""
        added = weights.beta * self.recent[weights.half_life] - weights.alpha * self.train
        return added if self.titles is None else added - weights.title * self.titles

    def calibration(self, weights: Weights) -> Calibration | None:
        """The calibration with these weights, None where all are 0."""
        if not weights.size:
            return None
        added = self.added(weights)
        return Calibration(weights, dict(zip(self.item_ids, added.tolist(), strict=True)), float(added.min()))


def priors(
    events: pl.DataFrame, item_ids: list[str], *, trained_until: datetime, now: datetime, length: timedelta
) -> Priors:
    """The priors of items at a moment; nothing that happened at it or later enters them.

    events: columns item_id and timestamp. trained_until: the model has learnt from what came before it.
    length: of the slice that is ranked, the unit of half-lives.
    """
    past = events.filter(pl.col(schema.TIMESTAMP) < now)
    learnt = (pl.col(schema.TIMESTAMP) < trained_until).sum().cast(pl.Float64).alias("train")
    ages = (pl.lit(now) - pl.col(schema.TIMESTAMP)).dt.total_microseconds() / (length / timedelta(microseconds=1))
    faded = [((-ages / half_life) * np.log(2)).exp().sum().alias(str(half_life)) for half_life in HALF_LIVES]
    counts = past.group_by(schema.ITEM_ID).agg(learnt, *faded)
    of_items = pl.DataFrame({schema.ITEM_ID: item_ids}).join(
        counts, on=schema.ITEM_ID, how="left", maintain_order="left"
    )
    shares = {name: log_shares(of_items[name].fill_null(0.0).to_numpy()) for name in counts.columns[1:]}
    return Priors(item_ids, shares["train"], {half_life: shares[str(half_life)] for half_life in HALF_LIVES})


def log_shares(counts: np.ndarray) -> np.ndarray:
    """log of (count + 1) / (all counts + items), Laplace's rule: an item that nobody took keeps a small share.

    >>> np.exp(log_shares(np.array([2.0, 0.0]))).tolist()  # 3 / 4 and 1 / 4
    [0.75, 0.25]
    """
    return np.asarray(np.log(counts + 1) - np.log(counts.sum() + len(counts)))
