"""Weights are found where a prior helps, and stay 0 where it does not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest

from dealrec_core.evaluation import calibrating
from dealrec_core.evaluation.comparison import Difference
from dealrec_core.samples.calibration import HALF_LIVES, Calibration, Priors, Scored, Weights, log_shares
from dealrec_core.settings.evaluation import EvaluationConfig

USERS, ITEMS, K = 300, 100, 10
IDS = [f"i{number:03d}" for number in range(ITEMS)]
CONFIG = EvaluationConfig(k=K)


@dataclass(frozen=True)
class Scores:
    """A recommender of fixed log probabilities; a history is the user's number, as an item of its own."""

    table: np.ndarray
    name: str = "scores"
    title_chances: None = None

    def recommend(self, histories: Sequence[Sequence[str]], k: int) -> list[list[str]]:
        return [[item for item, _ in ranking] for ranking in self.scored(histories, k, None)]

    def scored(self, histories: Sequence[Sequence[str]], k: int, calibration: Calibration | None) -> list[Scored]:
        rows = self.table[[int(history[0][1:]) for history in histories]]
        added = np.zeros(ITEMS) if calibration is None else calibration.of(IDS)
        order = np.argsort(-(rows + added), axis=1, kind="stable")[:, :k]
        return [[(IDS[item], float(row[item])) for item in best] for best, row in zip(order, rows, strict=True)]


def _town(seed: int = 0) -> tuple[np.ndarray, np.ndarray, pl.DataFrame, np.ndarray]:
    """Counts in training, counts of late, cases whose targets follow taste and late counts, and scores of taste and training."""
    random = np.random.default_rng(seed)
    early, late = (random.permutation(1000 / np.arange(1, ITEMS + 1)) for _ in range(2))
    taste = random.normal(size=(USERS, ITEMS))
    learnt = taste + np.log(early)
    chances = np.exp(taste + np.log(late))
    chances /= chances.sum(1, keepdims=True)
    targets = [[IDS[random.choice(ITEMS, p=row)]] for row in chances]
    rows = {"user_id": IDS[:1] * USERS, "history": [[f"u{user}"] for user in range(USERS)], "targets": targets}
    return early, late, pl.DataFrame(rows), learnt


def _priors(early: np.ndarray, late: np.ndarray) -> Priors:
    return Priors(IDS, log_shares(early), dict.fromkeys(HALF_LIVES, log_shares(late)))


def test_a_new_popularity_takes_the_place_of_the_old_one() -> None:
    early, late, cases, learnt = _town()
    fitted = calibrating.fit(Scores(learnt), cases, _priors(early, late), CONFIG, seed=0)
    # Scores hold taste + log early, targets follow taste + log late: the truth is alpha = beta = 1.
    assert fitted.weights == fitted.tried
    assert fitted.weights.alpha >= 0.5
    assert fitted.weights.beta >= 0.5
    assert fitted.gain.low > 0.1
    assert fitted.users == USERS


@pytest.mark.parametrize("seed", range(3))
def test_a_prior_that_knows_nothing_keeps_the_scores_as_they_are(seed: int) -> None:
    early, late, cases, learnt = _town(seed)
    elsewhere = np.random.default_rng(seed + 100).permutation(late)
    fitted = calibrating.fit(
        Scores(learnt - np.log(early) + np.log(late)), cases, _priors(late, elsewhere), CONFIG, seed=0
    )
    assert fitted.weights == Weights()
    assert _priors(late, elsewhere).calibration(fitted.weights) is None


def test_the_gain_is_that_of_lists_that_are_really_made() -> None:
    early, late, cases, learnt = _town()
    fitted = calibrating.fit(Scores(learnt), cases, _priors(early, late), CONFIG, seed=0)
    added = _priors(early, late).added(fitted.weights)
    targets = np.array([IDS.index(item) for (item,) in cases["targets"]])
    values = []
    for scores in (learnt + added, learnt):
        rank = (scores > scores[np.arange(USERS), targets][:, None]).sum(1)
        values.append(np.where(rank < K, 1 / np.log2(rank + 2), 0.0))
    assert fitted.gain.mean == pytest.approx((values[0] - values[1]).mean())


def test_of_weights_that_are_not_told_apart_the_smallest_are_tried() -> None:
    _, late, cases, learnt = _town()
    constant = np.ones(ITEMS)  # a train prior of equal shares changes no order: its weight must stay 0
    fitted = calibrating.fit(Scores(learnt), cases, _priors(constant, late), CONFIG, seed=0)
    assert fitted.tried.alpha == 0
    assert fitted.tried.beta > 0


def test_masked_items_count_neither_in_the_fit_nor_in_the_gain() -> None:
    early, late, cases, learnt = _town()
    seen = cases.with_columns(pl.concat_list("history", pl.lit(IDS[int(np.argmax(late))])).alias("history"))
    targets = seen.with_columns(pl.lit([IDS[int(np.argmax(late))]]).alias("targets"))
    masked = EvaluationConfig(k=K, mask_seen=True)
    fitted = calibrating.fit(Scores(learnt), targets, _priors(early, late), masked, seed=0)
    assert fitted.weights == Weights()  # the only target is masked: nothing can be gained
    assert fitted.gain.mean == 0


def test_few_users_are_no_evidence() -> None:
    early, late, cases, learnt = _town()
    fitted = calibrating.fit(
        Scores(learnt), cases.head(calibrating.LEAST_USERS - 1), _priors(early, late), CONFIG, seed=0
    )
    assert fitted.gain.low > 0
    assert fitted.weights == Weights()
    assert "fewer than 30 users" in str(fitted.facts()["calibration"])


def test_a_record_says_what_was_tried_where_nothing_is_used() -> None:
    unclear = Difference(0.001, -0.001, 0.003, 0.3, 0.8)
    facts = calibrating.Fitted(Weights(), Weights(alpha=0.5, beta=1), unclear, 40).facts()
    assert facts["calibration"] == "none: alpha 0.5, beta 1, title 0 are not clearly better"
    assert facts["calibration beta"] == 0
    assert "calibration" not in calibrating.Fitted(Weights(beta=1), Weights(beta=1), unclear, 40).facts()
