"""Fits the weights of a calibration on validation users, and leaves at 0 what does not clearly help.

Lists are made under a few weights, `CORNERS`. The items of all lists of a user, with their scores, are the pool in which
every other weight is tried, so that a fit ranks the users four or five times instead of hundreds of times. The best
weights of the pool are then measured with full lists.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.evaluation import metrics
from dealrec_core.evaluation.comparison import Difference, difference
from dealrec_core.samples.calibration import HALF_LIVES, Calibrated, Priors, Weights
from dealrec_core.settings.evaluation import EvaluationConfig

# A beta above 2 makes of every list one list for everybody, with small exceptions: popularity can do that as well.
ALPHAS, BETAS, TITLES = (0.0, 0.25, 0.5, 1.0), (0.0, 0.25, 0.5, 1.0, 1.5, 2.0), (0.0, 0.25, 0.5, 1.0)
NONE = Weights()
CORNERS = [NONE, Weights(beta=0.5), Weights(alpha=0.5, beta=2)]
TITLE_CORNER = Weights(beta=0.5, title=0.5)
RESAMPLES = 2000
LEAST_USERS = 30
"""Number of users below which weights stay 0: an interval by resampling so few is too narrow."""


@dataclass(frozen=True)
class Fitted:
    """The weights that a recommender is served with, and what they are worth to the users they were fitted on."""

    weights: Weights
    tried: Weights
    """The best weights; `weights` are 0 where their gain is not clear."""
    gain: Difference
    """How much larger NDCG is under `tried` than without a calibration, by user."""
    users: int

    def facts(self) -> dict[str, str | int | float]:
        """The fit in words and numbers, for a stage's record."""
        chosen, best = self.weights, self.tried
        facts: dict[str, str | int | float] = {
            "calibration alpha": chosen.alpha,
            "calibration beta": chosen.beta,
            "calibration title": chosen.title,
            "calibration half-life in slices": chosen.half_life,
            "calibration users": self.users,
            "calibration gain": round(self.gain.mean, 5),
            "calibration gain at least": round(self.gain.low, 5),
        }
        if best.size and not chosen.size:
            why = "not clearly better" if self.users >= LEAST_USERS else f"fitted on fewer than {LEAST_USERS} users"
            weights = f"alpha {best.alpha:g}, beta {best.beta:g}, title {best.title:g}"
            facts["calibration"] = f"none: {weights} are {why}"
        return facts


def fit(recommender: Calibrated, cases: pl.DataFrame, priors: Priors, config: EvaluationConfig, *, seed: int) -> Fitted:
    """The smallest weights whose NDCG is within one standard error of the best, where they clearly beat none at all.

    cases: users with history and targets (`split.cases`); the priors must end before the targets begin. Clear is a gain
    over lists without weights whose 95% interval over at least `LEAST_USERS` users is above 0.
    """
    pool = _Pool(recommender, cases, priors, config)
    values = {weights: pool.ndcg(weights) for weights in _grid(titles=priors.titles is not None)}
    best = max(values, key=lambda weights: float(values[weights].mean()))
    tried = min(
        (weights for weights, ndcg in values.items() if _is_within_one_error(ndcg, values[best])),
        key=lambda weights: (weights.size, -float(values[weights].mean())),
    )
    gain = difference(pool.ranked(tried), pool.ranked(NONE), resamples=RESAMPLES, seed=seed)
    is_clear = gain.low > 0 and len(cases) >= LEAST_USERS
    return Fitted(tried if is_clear else NONE, tried, gain, len(cases))


def _grid(*, titles: bool) -> list[Weights]:
    """Every combination of weights; without beta there is one half-life."""
    grid = product(ALPHAS, BETAS, TITLES if titles else (0.0,), HALF_LIVES)
    return [Weights(*weights) for weights in grid if weights[1] or weights[3] == NONE.half_life]


def _is_within_one_error(ndcg: np.ndarray, best: np.ndarray) -> bool:
    gaps = best - ndcg
    return bool(gaps.mean() <= gaps.std() / np.sqrt(len(gaps)))


class _Pool:
    """For each case the items that a list under any corner holds: place in the priors, score and whether it is a target, (U, M)."""

    def __init__(self, recommender: Calibrated, cases: pl.DataFrame, priors: Priors, config: EvaluationConfig) -> None:
        self._recommender, self._priors, self._k, self._masks = recommender, priors, config.k, config.mask_seen
        self._histories, self._targets = cases[schema.HISTORY].to_list(), cases["targets"].to_list()
        corners = CORNERS if priors.titles is None else [*CORNERS, TITLE_CORNER]
        self._made = {weights: self._lists(weights, 2 * config.k) for weights in corners}
        place = {item: row for row, item in enumerate(priors.item_ids)}
        pools: list[dict[str, float]] = [{} for _ in self._histories]
        for lists in self._made.values():
            for pool, ranking in zip(pools, lists, strict=True):
                pool.update(pair for pair in ranking if pair[0] in place)
        shape = len(pools), max(1, *map(len, pools)) if pools else 1
        self._scores, self._places = np.full(shape, -np.inf), np.zeros(shape, dtype=np.int64)
        self._hits = np.zeros(shape, dtype=bool)
        for user, (pool, targets) in enumerate(zip(pools, self._targets, strict=True)):
            self._scores[user, : len(pool)] = list(pool.values())
            self._places[user, : len(pool)] = [place[item] for item in pool]
            self._hits[user, : len(pool)] = [item in set(targets) for item in pool]
        self._discount = 1 / np.log2(np.arange(2, config.k + 2))
        counts = [min(len(set(targets)), config.k) for targets in self._targets]
        self._best = np.cumsum(self._discount)[np.array(counts) - 1]

    def ndcg(self, weights: Weights) -> np.ndarray:
        """NDCG of each user's pool, ranked under some weights, (U,)."""
        order = np.argsort(-(self._scores + self._priors.added(weights)[self._places]), axis=1, kind="stable")
        hits = np.take_along_axis(self._hits, order[:, : self._k], axis=1)
        return np.asarray((hits * self._discount[: hits.shape[1]]).sum(1) / self._best)

    def ranked(self, weights: Weights) -> np.ndarray:
        """NDCG of each user's list as the recommender makes it under some weights, (U,)."""
        made = self._made.get(weights) or self._lists(weights, self._k)
        lists = [[item for item, _ in ranking[: self._k]] for ranking in made]
        return metrics.ndcg(lists, self._targets, k=self._k)

    def _lists(self, weights: Weights, k: int) -> list[list[tuple[str, float]]]:
        """The k best items of each user under some weights, without those of the history where the settings mask them."""
        longest = max((len(set(history)) for history in self._histories), default=0) if self._masks else 0
        lists = self._recommender.scored(self._histories, k + longest, self._priors.calibration(weights))
        if not self._masks:
            return lists
        histories = map(set, self._histories)
        return [
            [pair for pair in ranking if pair[0] not in history][:k]
            for ranking, history in zip(lists, histories, strict=True)
        ]
