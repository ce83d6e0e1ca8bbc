"""The gate: a candidate replaces the champion only if it is better on the same held-out users."""

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

from dealrec_core.evaluation import metrics
from dealrec_core.settings.evaluation import GateConfig


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
    slices: dict[str, float] = {}
    """Mean gain of every slice that has a say."""


def judge(
    candidate: np.ndarray,
    incumbent: np.ndarray,
    *,
    against: str,
    metric: str,
    config: GateConfig,
    seed: int,
    slices: Mapping[str, np.ndarray] | None = None,
) -> Verdict:
    """Compares per-user values (U,) of the candidate with those of what it would replace, on the same users in the same order.

    slices: which users (U,) bool belong to a slice that must not lose more than `maximum_slice_loss`.
    """
    interval = metrics.paired_difference(
        candidate, incumbent, threshold=config.minimum_gain, resamples=config.resamples, seed=seed
    )
    better = interval.mean > config.minimum_gain and interval.probability >= config.confidence
    gains = _slice_gains(candidate - incumbent, slices or {}, smallest=config.slice_users)
    loser = _loser(gains, config.maximum_slice_loss)
    figures = (
        f"{metric} {candidate.mean():.4f} against {incumbent.mean():.4f} of {against}: gain {interval.mean:+.4f} "
        f"[{interval.low:+.4f}, {interval.high:+.4f}], above {config.minimum_gain:g} in {interval.probability:.0%} of resamples"
    )
    wanted = f"wanted {config.confidence:.0%}"
    reason = f"better: {figures}" if better else f"not better: {figures}, {wanted}"
    if better and loser:
        reason = f"worse for {loser}: {gains[loser]:+.4f}, at most -{config.maximum_slice_loss:g} allowed; {reason}"
    return Verdict(
        promoted=better and loser is None,
        reason=reason,
        against=against,
        metric=metric,
        users=len(candidate),
        candidate=float(candidate.mean()),
        incumbent=float(incumbent.mean()),
        gain=interval.mean,
        low=interval.low,
        high=interval.high,
        confidence=interval.probability,
        slices=gains,
    )


def _slice_gains(gain: np.ndarray, slices: Mapping[str, np.ndarray], *, smallest: int) -> dict[str, float]:
    return {name: float(gain[users].mean()) for name, users in slices.items() if users.sum() >= smallest}


def _loser(gains: Mapping[str, float], limit: float | None) -> str | None:
    """The slice that loses most, where it loses more than the limit."""
    worst = min(gains, key=lambda name: gains[name], default=None)
    return worst if worst is not None and limit is not None and gains[worst] < -limit else None
