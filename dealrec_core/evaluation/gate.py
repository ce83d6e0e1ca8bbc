"""The gate: a candidate replaces the champion only if enough evidence says that it is better on the same held-out users.

Evidence is won in a bet against the champion. One unit of money is shared among the `STAKES`; with a stake s every held-out user
multiplies its part by 1 + s · (gain − minimum gain) / (1 + minimum gain), which is above 0. Where the mean gain of users is no more
than the minimum, no stake is expected to win: the logarithm of the expected product is at most users times the logarithm of
1 + s · (mean − minimum) / (1 + minimum), because log(1 + x) is concave. So the money is a nonnegative supermartingale, and the chance
that it ever reaches E is at most 1 / E (Ville's inequality), whatever the night on which one looks
(Waudby-Smith and Ramdas 2023, 2010.09686). No normal law and no number of users is assumed; gains lie between −1 and 1.

The n-th challenger of a champion needs n (n + 1) / (1 − confidence). The chances 1 / needed of all challengers, however many come, sum
to 1 − confidence: this bounds the chance that a champion is ever replaced by a model that is not better.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from dealrec_core.evaluation.comparison import difference
from dealrec_core.settings.evaluation import GateConfig

CHAMPION = "champion"
"""Name of the model in charge among those that are evaluated."""
SMALLEST_SLICE = 30
"""Users below which a slice is ignored, because its mean is noise."""
CLEAR_LOSS = 2.0
"""Standard errors by which a slice must at least lose."""
STAKES = np.array([0.95, 0.75, *0.5 ** np.arange(1, 8)])
"""Stakes of the bet, 0.95 to 1/128: the best one is about the mean gain over its variance, which nobody knows before."""


class Trial(BaseModel):
    """The result of one challenger on the held-out users of one night, and the winnings of its bet over all nights so far."""

    model_config = ConfigDict(frozen=True)

    role: Literal["champion", "candidate", "shadow"]
    """The champion's trial is only a record."""
    model: str
    """Name of the night that made the model."""
    champion: str
    """Version of the champion; empty while there is none."""
    against: str
    """Name of the recommender to beat."""
    number: int
    """Place among the challengers of this champion, from 1; 0 while there is no champion."""
    since: datetime
    through: datetime
    """The users took their targets from `since` up to this moment."""
    users: int
    recall: float
    """Mean recall of the lists that a page shows."""
    value: float
    """Mean of the gate's metric; `opponent` is that of the model to beat, on the same users."""
    opponent: float
    gain: float
    low: float
    """Lower end of the 95% interval of tonight's gain."""
    high: float
    all_users: int
    """Users of all nights in which this challenger was judged."""
    winnings: list[float]
    """Logarithm of what each stake has made of its money in all of these nights."""
    slices: dict[str, tuple[float, float]] = {}
    """Mean gain and standard error of every slice of users that is large enough to count."""

    @property
    def evidence(self) -> float:
        """The money that one unit has become in the bet: the odds against the champion being as good."""
        return float(evidence(np.array(self.winnings)))


class Verdict(BaseModel):
    """The gate's decision about promotion, and the numbers behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    promoted: bool
    winner: str
    """Name of the night whose model the numbers are about."""
    shadow: str | None
    """Name of the night whose model stays to be judged again, None where no challenger is ahead."""
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
    evidence: float
    needed: float
    """Evidence at which the challenger is promoted."""
    slices: dict[str, float] = {}
    """Mean gain of every slice of users that is large enough to count."""


def opponent(means: Mapping[str, float], config: GateConfig) -> str:
    """Returns the name of the recommender to beat: the champion where it was evaluated, else the best of `gate.first_beats`.

    means: the gate's metric of every recommender that was evaluated, by name.
    """
    return CHAMPION if CHAMPION in means else max(config.first_beats, key=lambda name: means[name])


def winnings(gains: np.ndarray, minimum: float = 0.0) -> np.ndarray:
    """Logarithm of what each user's gain makes of the money of each stake, (U, stakes); the sum over users is that of all.

    >>> round(float(evidence(winnings(np.array([1.0, 1.0, 1.0])).sum(0))), 2)  # three users are no proof
    2.65
    """
    return np.asarray(np.log1p(np.multiply.outer((gains - minimum) / (1 + minimum), STAKES)))


def evidence(logarithms: np.ndarray) -> np.ndarray:
    """The money of all stakes together, from the logarithm of each (…, stakes).

    >>> float(evidence(np.zeros(len(STAKES))))  # nothing was won or lost
    1.0
    """
    return np.asarray(np.exp(np.minimum(logarithms, 700.0)).mean(axis=-1))  # e^700 is the largest that a float holds


def needed(number: int | np.ndarray, confidence: float) -> float | np.ndarray:
    """The evidence that the challenger of this number needs; 0 stands for a first candidate, which risks no champion.

    >>> [round(needed(number, 0.9)) for number in (0, 1, 2, 3)]
    [10, 20, 60, 120]
    """
    return np.maximum(number * (number + 1), 1) / (1 - confidence)


def next_number(before: Sequence[Trial]) -> int:
    """Place of the next challenger among those of a champion, from 1.

    before: the trials against this champion. A challenger that ranks exactly as the champion does, because its tuning changed nothing,
        uses up no place. Its money stays 1, so that it is never promoted, and the next challenger may have its place.
    """
    return 1 + max((trial.number for trial in before if any(trial.winnings)), default=0)


def summed(
    trial: Mapping[str, object],
    values: np.ndarray,
    opponents: np.ndarray,
    *,
    config: GateConfig,
    seed: int,
    slices: Mapping[str, np.ndarray] | None = None,
    before: Trial | None = None,
) -> Trial:
    """The trial of a challenger on per-user values (U,) of it and of the model it would replace, same users in the same order.

    trial: the fields that say what was tried. before: the challenger's last trial, to whose evidence this one is added; one with
        other stakes, which an older release made, counts for nothing.
    slices: for each slice of users, which of them (U,) bool belong to it.

    Raises:
        DataError: the numbers of users differ, or there is no user.
    """
    gain = difference(values, opponents, threshold=config.minimum_gain, resamples=config.resamples, seed=seed)
    won = winnings(values - opponents, config.minimum_gain).sum(axis=0)
    if before is not None and len(before.winnings) != len(STAKES):
        before = None
    return Trial.model_validate(
        {
            **trial,
            "users": len(values),
            "value": float(values.mean()),
            "opponent": float(opponents.mean()),
            "gain": gain.mean,
            "low": gain.low,
            "high": gain.high,
            "all_users": len(values) + (before.all_users if before else 0),
            "winnings": (won + before.winnings if before else won).tolist(),
            "slices": _slice_gains(values - opponents, slices or {}),
        }
    )


def best(trials: list[Trial], config: GateConfig) -> Trial:
    """The challenger that has most of the evidence that it needs; among equals, the one that came first."""
    return max(trials, key=lambda trial: (trial.evidence / needed(trial.number, config.confidence), -trial.number))


def decide(trials: list[Trial], *, metric: str, config: GateConfig) -> Verdict:
    """The verdict on tonight's candidate and, where there is one, the shadow.

    The first that has the evidence it needs is promoted, unless a slice of users clearly loses. Else the one that is ahead,
    with more money than it began with, stays as shadow and is judged again on the next night's new events.
    """
    passed = [trial for trial in trials if _passes(trial, config)]
    sound = [trial for trial in passed if _loss(trial, config) is None]
    leader = best(sound or passed or trials, config)
    ahead = [trial for trial in trials if trial.evidence > 1 and trial.champion]
    shadow = None if sound or not ahead else best(ahead, config).model
    return Verdict(
        promoted=bool(sound),
        winner=leader.model,
        shadow=shadow,
        reason=_reason(leader, metric, config, shadow=shadow),
        against=leader.against,
        metric=metric,
        users=leader.users,
        candidate=leader.value,
        incumbent=leader.opponent,
        gain=leader.gain,
        low=leader.low,
        high=leader.high,
        evidence=round(leader.evidence, 3),
        needed=round(float(needed(leader.number, config.confidence)), 3),
        slices={name: gain for name, (gain, _) in leader.slices.items()},
    )


def _passes(trial: Trial, config: GateConfig) -> bool:
    return bool(trial.evidence >= needed(trial.number, config.confidence))


def _reason(trial: Trial, metric: str, config: GateConfig, *, shadow: str | None) -> str:
    """The verdict in words: what was decided, the change, its interval, and who is in charge."""
    is_better, loss = _passes(trial, config), _loss(trial, config)
    is_promoted = is_better and not loss
    because = _change(metric, trial)
    if loss:
        because = f"{loss}, although {because}" if is_better else f"{because}, and {loss}"
    if is_better or trial.gain > 0:
        users = f" over {trial.all_users:,} users of several nights" if trial.all_users > trial.users else ""
        number = _odds(float(needed(trial.number, config.confidence)))
        evidence = f"the evidence is {_odds(trial.evidence)} to 1{users}, and a promotion needs {number} to 1"
        because += f"; {evidence}" if is_better else f", but {evidence}"
    head = "Promoted" if is_promoted else "Rejected"
    if trial.role == "shadow":
        head = f"{head}: the model of night {trial.model}, judged again"
    sentences = [f"{head}: {because}."]
    if not is_promoted:
        sentences.append("The champion stays." if trial.champion else "There is no champion yet.")
    if shadow:
        sentences.append(f"The model of night {shadow} stays as shadow: the next nights judge it again.")
    return " ".join(sentences)


def _change(metric: str, trial: Trial) -> str:
    """Says how a metric moved from the model to beat to the one that was judged.

    A champion is replaced, so the metric rises or falls; a baseline is only compared with.
    """
    digits = 3 if f"{trial.value:.3f}" != f"{trial.opponent:.3f}" else 4
    new, old = f"{trial.value:.{digits}f}", f"{trial.opponent:.{digits}f}"
    interval = f"95% interval {trial.low:+.{digits}f} to {trial.high:+.{digits}f}"
    if trial.against != CHAMPION:
        return f"{metric} is {new} against {old} of {trial.against} ({interval} of the difference)"
    if new == old:
        return f"{metric} stayed at {new} ({interval})"
    return f"{metric} {'rose' if trial.gain > 0 else 'fell'} from {old} to {new} ({interval})"


def _odds(number: float) -> str:
    return f"{number:.2g}" if number < 10 else f"{number:,.0f}" if number < 1e6 else "more than 1,000,000"


def _slice_gains(gains: np.ndarray, slices: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """Mean gain and standard error of each slice that is large enough."""
    parts = {name: gains[users] for name, users in slices.items() if users.sum() >= SMALLEST_SLICE}
    return {name: (float(part.mean()), float(part.std() / np.sqrt(len(part)))) for name, part in parts.items()}


def _loss(trial: Trial, config: GateConfig) -> str | None:
    """The slice that loses most and its loss, where that is more than the limit and more than `CLEAR_LOSS` standard errors."""
    limit = config.maximum_slice_loss
    if limit is None or not trial.slices:
        return None
    allowed = {name: max(limit, CLEAR_LOSS * error) for name, (_, error) in trial.slices.items()}
    worst = min(trial.slices, key=lambda name: trial.slices[name][0] + allowed[name])
    gain = trial.slices[worst][0]
    return f"{worst} lose {-gain:.3f}, and at most {allowed[worst]:.3g} is allowed" if gain < -allowed[worst] else None
