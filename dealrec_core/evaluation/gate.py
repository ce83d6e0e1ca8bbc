"""The gate: a candidate replaces the champion only if it is better on the same held-out users."""

from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

from dealrec_core.evaluation.comparison import difference
from dealrec_core.settings.evaluation import GateConfig

CHAMPION = "champion"
"""Name of the model in charge among those that are evaluated."""
SMALLEST_SLICE = 30
"""Users below which a slice is ignored, because its mean is noise."""


class Verdict(BaseModel):
    """The gate's decision about promotion, and the numbers behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promoted: bool
    reason: str
    against: str
    """Name of what the candidate had to beat: the champion, or while there is none the best of `gate.first_beats`."""
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
    """Mean gain of every slice of users that is large enough to count."""


def opponent(means: Mapping[str, float], config: GateConfig) -> str:
    """Returns the name of the recommender to beat: the champion where it was evaluated, else the best of `gate.first_beats`.

    means: the gate's metric of every recommender that was evaluated, by name.
    """
    return CHAMPION if CHAMPION in means else max(config.first_beats, key=lambda name: means[name])


def decide(
    candidate: np.ndarray,
    incumbent: np.ndarray,
    *,
    against: str,
    metric: str,
    config: GateConfig,
    seed: int,
    slices: Mapping[str, np.ndarray] | None = None,
) -> Verdict:
    """The verdict on per-user values (U,) of the candidate and of the model it would replace, same users in the same order.

    slices: for each slice of users, which of them (U,) bool belong to it; none may lose more than `maximum_slice_loss`.

    Raises:
        DataError: the numbers of users differ, or there is no user.

    >>> better = np.array([1.0, 1.0, 1.0, 0.0] * 50)
    >>> worse = np.array([1.0, 0.0, 0.0, 0.0] * 50)
    >>> verdict = decide(better, worse, against="champion", metric="recall@10", config=GateConfig(), seed=0)
    >>> verdict.promoted, verdict.gain  # 150 / 200 − 50 / 200
    (True, 0.5)
    >>> decide(worse, better, against="champion", metric="recall@10", config=GateConfig(), seed=0).promoted
    False
    """
    gain = difference(candidate, incumbent, threshold=config.minimum_gain, resamples=config.resamples, seed=seed)
    is_better = gain.mean > config.minimum_gain and gain.above >= config.confidence
    slice_gains = _slice_gains(candidate - incumbent, slices or {})
    loser = _loser(slice_gains, config.maximum_slice_loss)
    reason = (
        f"{metric} went from {incumbent.mean():.4f} ({against}) to {candidate.mean():.4f}: 95% interval of the change "
        f"{gain.low:+.4f} to {gain.high:+.4f}, above {config.minimum_gain:g} in {gain.above:.0%} of resamples"
    )
    reason = f"better: {reason}" if is_better else f"not better: {reason}, {config.confidence:.0%} needed"
    if is_better and loser:
        lost = f"{slice_gains[loser]:+.4f}, at most -{config.maximum_slice_loss:g} allowed"
        reason = f"worse for {loser}: {lost}; {reason}"
    return Verdict(
        promoted=is_better and loser is None,
        reason=reason,
        against=against,
        metric=metric,
        users=len(candidate),
        candidate=float(candidate.mean()),
        incumbent=float(incumbent.mean()),
        gain=gain.mean,
        low=gain.low,
        high=gain.high,
        confidence=gain.above,
        slices=slice_gains,
    )


def _slice_gains(gains: np.ndarray, slices: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(gains[users].mean()) for name, users in slices.items() if users.sum() >= SMALLEST_SLICE}


def _loser(slice_gains: Mapping[str, float], limit: float | None) -> str | None:
    """The slice that loses most, where it loses more than the limit."""
    worst = min(slice_gains, key=lambda name: slice_gains[name], default=None)
    return worst if worst is not None and limit is not None and slice_gains[worst] < -limit else None
