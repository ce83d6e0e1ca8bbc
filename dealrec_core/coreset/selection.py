"""Selects a coreset from scored samples."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from dealrec_core import schema
from dealrec_core.coreset.combine import Normalisation
from dealrec_core.coreset.methods import METHODS, Options
from dealrec_core.errors import DataError


class CoresetConfig(BaseModel):
    """How many samples are chosen, and by which rule."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    method: Literal["dealrec", "greedy", "random"] = Field(default="dealrec", title="Method")
    ratio: float = Field(default=0.02, gt=0, le=1, title="Share of the samples")
    """The paper takes about 2%."""
    count: int | None = Field(default=None, ge=1, title="Number of samples")
    """Wins over the share; the paper takes 1,024."""
    groups: int = Field(default=50, ge=1, le=10_000, title="Groups K")
    """Strata of equal score width; 25 to 75 in the paper."""
    effort_weight: float = Field(default=0.3, ge=0, title="Effort weight lambda")
    """0.1 to 2 in the paper, 0.3 on Games."""
    normalisation: Normalisation = Field(default="rank", title="Normalisation")
    """Before influence and effort are added: rank, minmax (released code), robust (median and MAD) or none (paper)."""
    hard_prune: float = Field(default=0.0, ge=0, lt=1, title="Drop the top share")
    """The released code drops the top tenth by score (0.1); the paper does not."""


@dataclass(frozen=True)
class Selection:
    """The chosen samples and what the choice looked like.

    frame: CORESETS without the night, sorted by sample_id.
    """

    frame: pl.DataFrame
    report: dict[str, int | float]


def select(scores: pl.DataFrame, config: CoresetConfig, *, seed: int) -> Selection:
    """Chooses samples. The order of rows does not matter, and the same seed gives the same choice.

    scores: columns sample_id, influence, effort. When the budget is not below the number of samples, all are chosen.

    Raises:
        DataError: there is no sample, or a score is missing or not finite.
    """
    ordered = scores.sort(schema.SAMPLE_ID)
    if ordered.is_empty():
        raise DataError("no scored sample to select from; the train slice is empty")
    influence, effort = (_finite(ordered, name) for name in (schema.INFLUENCE, schema.EFFORT))
    budget = min(config.count or max(1, round(config.ratio * len(ordered))), len(ordered))
    options = Options(
        budget=budget,
        groups=config.groups,
        effort_weight=config.effort_weight,
        normalisation=config.normalisation,
        hard_prune=config.hard_prune,
        seed=seed,
    )
    choice = METHODS[config.method](influence, effort, options)
    frame = ordered[choice.rows].select(
        schema.SAMPLE_ID,
        pl.Series(schema.SCORE, choice.scores[choice.rows]),
        schema.INFLUENCE,
        schema.EFFORT,
        pl.Series(schema.GROUP, choice.groups[choice.rows].astype(np.int32)),
        pl.lit(f"{config.method}: {len(choice.rows)} of {len(ordered)}").alias(schema.REASON),
    )
    report = {
        "samples": len(ordered),
        "chosen": len(choice.rows),
        "groups with samples": len(np.unique(choice.groups)),
        "groups covered": len(np.unique(choice.groups[choice.rows])),
        "score variance due to effort": round(choice.effort_share, 4),
    }
    return Selection(frame, report)


def _finite(frame: pl.DataFrame, name: str) -> np.ndarray:
    values = frame[name].cast(pl.Float64).to_numpy()
    bad = ~np.isfinite(values)
    if bad.any():
        sample = frame[schema.SAMPLE_ID][int(np.flatnonzero(bad)[0])]
        raise DataError(f"{name} of sample '{sample}' is {values[bad][0]} ({bad.sum()} such); score the samples again")
    return values
