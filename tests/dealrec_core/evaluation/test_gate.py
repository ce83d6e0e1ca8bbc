import numpy as np
import pytest

from dealrec_core.evaluation.gate import decide, opponent
from dealrec_core.settings.evaluation import GateConfig

BETTER = np.array([1.0, 1.0, 1.0, 0.0] * 50)
WORSE = np.array([1.0, 0.0, 0.0, 0.0] * 50)


def verdict(candidate: np.ndarray, incumbent: np.ndarray, **settings: float):
    return decide(candidate, incumbent, against="champion", metric="recall@10", config=GateConfig(**settings), seed=0)


def test_a_candidate_meets_the_champion_and_before_the_first_the_best_of_those_that_are_named():
    means = {"candidate": 0.9, "surrogate": 0.5, "item knn": 0.3, "recent popularity": 0.4, "popularity": 0.1}
    assert opponent(means, GateConfig()) == "recent popularity"
    assert opponent(means, GateConfig(first_beats=["popularity"])) == "popularity"
    assert opponent(means, GateConfig(first_beats=["item knn", "surrogate"])) == "surrogate"
    assert opponent({**means, "champion": 0.0}, GateConfig()) == "champion"


def test_a_candidate_that_is_better_on_the_same_users_is_promoted():
    found = verdict(BETTER, WORSE)
    assert found.promoted
    assert found.gain == 0.5  # 150/200 - 50/200
    assert found.low > 0
    assert found.reason.startswith(
        "better: recall@10 went from 0.2500 (champion) to 0.7500: 95% interval of the change +"
    )


def test_a_candidate_that_is_worse_is_not():
    found = verdict(WORSE, BETTER)
    assert not found.promoted
    assert found.reason.startswith("not better")


def test_an_equal_candidate_does_not_replace_the_champion():
    assert not verdict(BETTER, BETTER).promoted


def test_a_gain_below_the_minimum_is_not_enough():
    assert not verdict(BETTER, WORSE, minimum_gain=0.6).promoted
    assert verdict(BETTER, WORSE, minimum_gain=0.3).promoted


def test_one_lucky_user_is_not_enough():
    lucky = np.zeros(200)
    lucky[0] = 1.0  # drawn at least once in 1 - (1 - 1/200)^200 = 63% of resamples
    found = verdict(lucky, np.zeros(200))
    assert found.gain > 0
    assert not found.promoted
    assert 0.55 < found.confidence < 0.72


def test_a_better_candidate_that_loses_for_a_slice_is_rejected_by_name():
    candidate, incumbent = np.array([1.0] * 90 + [0.0] * 30), np.array([0.0] * 90 + [0.25] * 30)
    slices = {"new users": np.arange(120) >= 90, "everyone else": np.arange(120) < 90}
    asked = {"against": "champion", "metric": "recall@10", "seed": 0, "slices": slices}
    strict = decide(candidate, incumbent, config=GateConfig(maximum_slice_loss=0.1), **asked)
    assert not strict.promoted
    assert strict.reason.startswith("worse for new users: -0.2500, at most -0.1 allowed; better: ")
    assert strict.slices == pytest.approx({"new users": -0.25, "everyone else": 1.0})
    assert decide(candidate, incumbent, config=GateConfig(maximum_slice_loss=0.25), **asked).promoted
    asked["slices"] = {"29 new users": np.arange(120) >= 91}
    assert decide(candidate, incumbent, config=GateConfig(maximum_slice_loss=0.1), **asked).promoted
