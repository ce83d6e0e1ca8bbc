"""Input of every backend about items, and the recommender that it returns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dealrec_core.language.bases import Base
from dealrec_core.language.training import Trained
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.tiger import Tiger


@dataclass(frozen=True)
class ItemStatistics:
    """Facts about items from the log."""

    popularity: Mapping[str, float]
    """Interactions of each item, most first; the items that nobody has touched are missing."""

    @property
    def popular(self) -> list[str]:
        """At most 1,000 item ids, best first, for histories without a known item."""
        return list(self.popularity)[:1000]


UNCHANGED = "unchanged"
"""Fact of a tuning that changed nothing: why."""
LEAST_CHANGE = 0.001
"""Share of the validation loss by which the best epoch must differ from the start, else nothing was learnt."""


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
    base: Path | Base | None = None
    """The base model of an adapter: the folder of an embedded one, or one from outside."""


def tuned(
    recommender: BIGRec | Tiger, trained: Trained, champion: Path | None, *, parameters: int, measure: str = "loss"
) -> Tuned:
    """The result of a tuning, with its facts; `measure` names what chose the best epoch."""
    facts: dict[str, str | int | float] = {
        "started from": "base" if champion is None else "champion",
        "steps": trained.steps,
        "tokens": trained.tokens,
        "learning rate": round(trained.learning_rate, 6),
        "first loss": round(trained.losses[0], 4),
        "last loss": round(trained.losses[-1], 4),
        "best epoch": trained.best_epoch,
        f"validation {measure}": round(abs(max(trained.qualities)), 4),
        "resumed at step": trained.resumed_at,
    }
    if reason := unchanged(trained):
        facts[UNCHANGED] = reason
    return Tuned(recommender, trained.tokens, 6.0 * parameters * trained.tokens, facts)


def unchanged(trained: Trained) -> str | None:
    """Why a tuning changed nothing; None where it changed the model."""
    if trained.best_epoch == 0:
        return f"none of {len(trained.losses)} epochs was better than the start"
    before, after = trained.validation_losses[0], trained.validation_losses[trained.best_epoch]
    if abs(after - before) < LEAST_CHANGE * before:
        return f"the validation loss moved from {before:.4f} to {after:.4f}, by less than {LEAST_CHANGE:.1%}"
    return None
