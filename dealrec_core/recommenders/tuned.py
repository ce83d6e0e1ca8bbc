"""What every backend is given about items, and the recommender that it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dealrec_core.language.training import Trained
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.recommenders.tiger import Tiger


@dataclass(frozen=True)
class ItemStatistics:
    """What the log says about items."""

    popularity: Mapping[str, float]
    """Interactions of each item, most first; the items that nobody has touched are missing."""

    @property
    def popular(self) -> list[str]:
        """At most 1,000 item ids, best first, for histories without a known item."""
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
    base: str | None = None
    """Where the base model of an adapter is."""


def tuned(
    recommender: BIGRec | Tiger, trained: Trained, champion: Path | None, *, parameters: int, measure: str = "loss"
) -> Tuned:
    """The result of a tuning, with its facts; `measure` names what chose the best epoch."""
    facts: dict[str, str | int | float] = {
        "started from": "base" if champion is None else "champion",
        "steps": trained.steps,
        "tokens": trained.tokens,
        "first loss": round(trained.losses[0], 4),
        "last loss": round(trained.losses[-1], 4),
        "best epoch": trained.best_epoch,
        f"validation {measure}": round(abs(max(trained.qualities)), 4),
        "resumed at step": trained.resumed_at,
    }
    return Tuned(recommender, trained.tokens, 6.0 * parameters * trained.tokens, facts)
