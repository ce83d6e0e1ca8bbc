"""The gate: a candidate replaces the champion only if it is better on the same held-out users."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from dealrec_core import metrics


class GateConfig(BaseModel):
    """When a candidate is promoted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    metric: Literal["recall", "ndcg", "mrr"] = Field(default="recall", title="Metric")
    """Compared per user at evaluate.k."""
    minimum_gain: float = Field(default=0.0, ge=0, title="Minimum gain")
    """The mean gain over what would be replaced must be larger than this (absolute)."""
    confidence: float = Field(default=0.9, ge=0.5, lt=1, title="Confidence")
    """Share of bootstrap resamples over users in which the gain must exceed minimum_gain."""
    resamples: int = Field(default=2000, ge=100, title="Bootstrap resamples")
    """More give a steadier verdict and cost little."""


class Verdict(BaseModel):
    """What the gate decided, and from which numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promoted: bool
    reason: str
    against: str
    """Name of what the candidate had to beat: the champion, or popularity while there is none."""
    metric: str
    users: int
    candidate: float
    incumbent: float
    gain: float
    low: float
    """Lower end of the 95% interval of the gain."""
    high: float
    confidence: float
    """Share of resamples in which the gain exceeds the minimum."""


def judge(
    candidate: np.ndarray, incumbent: np.ndarray, *, against: str, metric: str, config: GateConfig, seed: int
) -> Verdict:
    """Compares per-user values (U,) of the candidate with those of what it would replace, on the same users in the same order."""
    interval = metrics.paired_difference(
        candidate, incumbent, threshold=config.minimum_gain, resamples=config.resamples, seed=seed
    )
    promoted = interval.mean > config.minimum_gain and interval.probability >= config.confidence
    figures = (
        f"{metric} {candidate.mean():.4f} against {incumbent.mean():.4f} of {against}: gain {interval.mean:+.4f} "
        f"[{interval.low:+.4f}, {interval.high:+.4f}], above {config.minimum_gain:g} in {interval.probability:.0%} of resamples"
    )
    wanted = f"wanted {config.confidence:.0%}"
    return Verdict(
        promoted=promoted,
        reason=f"better: {figures}" if promoted else f"not better: {figures}, {wanted}",
        against=against,
        metric=metric,
        users=len(candidate),
        candidate=float(candidate.mean()),
        incumbent=float(incumbent.mean()),
        gain=interval.mean,
        low=interval.low,
        high=interval.high,
        confidence=interval.probability,
    )
