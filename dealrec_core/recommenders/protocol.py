"""The questions that a night and a study put to any model that can be tuned, in values: settings, frames, folders.

Backend      a kind of recommender with its settings: prepares a base, opens it, saves what was tuned
OpenedBase   a base on a catalogue: effort, gradients, hidden states and tokens of samples, and tuning
Tuned        the recommender that came out, and the facts about its tuning
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from torch import Tensor

from dealrec_core.language.progress import Progress, silent
from dealrec_core.language.training import Trained
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.tiger import Tiger
from dealrec_core.samples.items import Catalogue
from dealrec_core.settings import Config
from dealrec_core.settings.language import EffortConfig, FineTuneConfig, LanguageModelConfig
from dealrec_core.settings.recommenders import BIGRecConfig, SemanticIdsConfig, TigerConfig

Gradients = Iterator[tuple[np.ndarray, dict[str, Tensor]]]
"""Batches as (rows, gradient (B, out, in) of each row by each matrix)."""


@dataclass(frozen=True)
class BackendSettings:
    """The sections of the settings that backends read."""

    language_model: LanguageModelConfig
    bigrec: BIGRecConfig
    fine_tune: FineTuneConfig
    effort: EffortConfig
    tiger: TigerConfig
    semantic_ids: SemanticIdsConfig

    @classmethod
    def of(cls, config: Config) -> "BackendSettings":
        """The sections of a night's settings."""
        night = config.algorithms
        return cls(night.language_model, night.bigrec, night.fine_tune, night.effort, night.tiger, night.semantic_ids)


@dataclass(frozen=True)
class ItemStatistics:
    """Statistics of the log about items."""

    popularity: Mapping[str, float]
    """Interactions of each item, most first; the items that nobody has touched are missing."""
    interactions: Callable[[], pl.DataFrame] | None = None
    """Gives the log of the train period; called where ground decoding is weighed by neighbours."""

    @property
    def popular(self) -> list[str]:
        """The 1,000 most popular item ids, best first, for histories without a known item."""
        return list(self.popularity)[:1000]


@dataclass(frozen=True)
class Tuned:
    """A tuned recommender, and what tuning took."""

    recommender: BIGRec | Tiger
    tokens: int
    """Tokens of all epochs."""
    flops: float
    """6 · parameters · tokens: forward and backward of dense layers, the usual convention."""
    facts: dict[str, str | int | float]
    """For people: losses, the best epoch, steps, ..."""
    base: str = ""
    """Where the base model is."""


def tuning_facts(trained: Trained, measure: str) -> dict[str, str | int | float]:
    """The facts of a tuning that every backend has; `measure` names what chose the best epoch."""
    return {
        "steps": trained.steps,
        "tokens": trained.tokens,
        "first loss": round(trained.losses[0], 4),
        "last loss": round(trained.losses[-1], 4),
        "best epoch": trained.best_epoch,
        f"validation {measure}": round(abs(max(trained.qualities)), 4),
        "resumed at step": trained.resumed_at,
    }


class OpenedBase(Protocol):
    """A base model on a catalogue. Its model is loaded when it is first asked for, and once.

    It pickles without the model. Questions share the model: an iterator of `gradients` must end before the next one.
    """

    def effort(self, samples: pl.DataFrame) -> np.ndarray:
        """The gradient norm of each sample's loss, float64 (N,), by the base or by the champion (`effort.model`).

        Raises:
            NotFinite: a norm is NaN or infinite; the message names the sample.
        """
        ...

    def gradients(self, samples: pl.DataFrame) -> Gradients:
        """Yields the per-sample gradients of the base with a fresh adapter."""
        ...

    def hidden(self, samples: pl.DataFrame) -> np.ndarray:
        """The base's pooled hidden states of each sample, float32 (N, D)."""
        ...

    def tokens(self, samples: pl.DataFrame) -> np.ndarray:
        """The tokens that each sample costs in an epoch, int64 (N,); loads no model."""
        ...

    def tune(
        self,
        chosen: pl.DataFrame,
        held: pl.DataFrame,
        statistics: ItemStatistics,
        *,
        seed: int | None = None,
        checkpoint_folder: Path | None = None,
        progress: Progress = silent,
    ) -> Tuned:
        """Tunes the base, or goes on from the champion (`fine_tune.start`); the best epoch on the held samples counts.

        seed: by default the backend's. checkpoint_folder: a killed tuning goes on there to the same bits.
        """
        ...

    def log_likelihood(self, recommender: BIGRec | Tiger, samples: pl.DataFrame) -> np.ndarray:
        """The mean log-probability of a token of each sample's target by a tuned recommender, float64 (N,)."""
        ...


class Backend(Protocol):
    """A kind of recommender that can be tuned, with its settings."""

    @property
    def name(self) -> str:
        """Its name in the settings, and the kind of its bundles."""
        ...

    @property
    def base_name(self) -> str:
        """The name of its base model, for people."""
        ...

    @property
    def base_location(self) -> str:
        """Folder or name of a base that is not built here."""
        ...

    def base_key(self) -> list[str] | None:
        """Texts over all settings that a built base depends on; None where the base comes from outside."""
        ...

    def outside_key(self) -> list[str]:
        """Texts that change with the weights of a base from outside."""
        ...

    def prepare(
        self, folder: Path, catalogue: Catalogue, past: pl.DataFrame, checkpoint_folder: Path | None = None
    ) -> None:
        """Builds the base into a folder.

        catalogue: the items that somebody has touched. past: samples of the older half (`backend.older_half`).
        """
        ...

    def effort_key(self) -> list[str]:
        """Texts over all settings, beside the base, that effort depends on."""
        ...

    def open(self, base: Path | str, catalogue: Catalogue, champion: Path | None = None) -> OpenedBase:
        """The base on a catalogue of all items that may be asked for.

        champion: bundle of the model in charge, where it was tuned from this base (`backend.usable_champion`).
        """
        ...

    def save(self, folder: Path, tuned: Tuned, lineage: Mapping[str, str | int | float | None]) -> None:
        """Writes the bundle of a tuned recommender."""
        ...
