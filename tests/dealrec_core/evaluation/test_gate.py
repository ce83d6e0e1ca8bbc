import math
from datetime import UTC, datetime

import numpy as np
import pytest

from benchmarks import gate as years
from dealrec_core.errors import DataError
from dealrec_core.evaluation import gate
from dealrec_core.evaluation.gate import STAKES, Trial, decide, needed, opponent
from dealrec_core.settings.evaluation import GateConfig

BETTER = np.array([1.0, 1.0, 1.0, 0.0] * 50)
WORSE = np.array([1.0, 0.0, 0.0, 0.0] * 50)
DAY = datetime(2026, 1, 1, tzinfo=UTC)
TRIED = {"role": "candidate", "model": "tonight", "champion": "1", "against": "champion", "number": 1}
TRIED |= {"since": DAY, "through": DAY, "recall": 0.0}


def trial(candidate: np.ndarray, incumbent: np.ndarray, *, slices=None, before=None, tried=None, **settings) -> Trial:
    config = GateConfig(**settings)
    found = {**TRIED, **(tried or {})}
    return gate.summed(found, candidate, incumbent, config=config, seed=0, slices=slices, before=before)


def verdict(*trials: Trial, **settings):
    return decide(list(trials), metric="ndcg@20", config=GateConfig(**settings))


def test_a_candidate_meets_the_champion_and_before_the_first_the_best_of_those_that_are_named():
    means = {"candidate": 0.9, "surrogate": 0.5, "item knn": 0.3, "recent popularity": 0.4, "popularity": 0.1}
    assert opponent(means, GateConfig()) == "recent popularity"
    assert opponent(means, GateConfig(first_beats=["popularity"])) == "popularity"
    assert opponent(means, GateConfig(first_beats=["item knn", "surrogate"])) == "surrogate"
    assert opponent({**means, "champion": 0.0}, GateConfig()) == "champion"


def test_a_candidate_that_is_better_on_the_same_users_is_promoted():
    found = verdict(trial(BETTER, WORSE))
    assert found.promoted
    assert found.shadow is None
    assert found.gain == 0.5  # 150/200 - 50/200
    assert found.low > 0
    assert found.reason.startswith("Promoted: ndcg@20 rose from 0.250 to 0.750 (95% interval +")
    assert found.reason.endswith(" to 1, and a promotion needs 20 to 1.")


def test_a_candidate_that_is_worse_or_equal_is_not_and_is_no_shadow():
    for candidate, said in ((WORSE, "fell from 0.750 to 0.250"), (BETTER, "stayed at 0.7500")):
        found = verdict(trial(candidate, BETTER))
        assert (found.promoted, found.shadow) == (False, None)
        assert found.reason.startswith(f"Rejected: ndcg@20 {said} (95% interval ")
        assert found.reason.endswith("). The champion stays.")


def test_a_gain_below_the_minimum_is_not_enough():
    assert not verdict(trial(BETTER, WORSE, minimum_gain=0.6)).promoted
    assert verdict(trial(BETTER, WORSE, minimum_gain=0.3)).promoted


def test_three_lucky_users_are_not_enough():
    lucky = np.array([1.0] * 3 + [0.0] * 197)
    found = verdict(trial(lucky, np.zeros(200)))
    expected = sum((1 + stake) ** 3 for stake in STAKES) / len(STAKES)  # every other user leaves the money as it is
    assert found.evidence == pytest.approx(expected, abs=1e-3)
    assert (found.promoted, found.needed, found.shadow) == (False, 20.0, "tonight")
    assert found.reason.endswith(
        " to 1, and a promotion needs 20 to 1. The champion stays. "
        "The model of night tonight stays as shadow: the next nights judge it again."
    )


def test_evidence_of_several_nights_is_multiplied():
    lucky, nobody = np.array([1.0] * 3 + [0.0] * 197), np.zeros(200)
    first = trial(lucky, nobody)
    second = trial(lucky, nobody, before=first, tried={"role": "shadow"})
    assert second.all_users == 400
    expected = sum((1 + stake) ** 6 for stake in STAKES) / len(STAKES)
    assert second.evidence == pytest.approx(expected)
    assert " over 400 users of several nights" in verdict(second).reason


def test_the_chances_of_all_challengers_of_a_champion_sum_to_what_is_allowed():
    chances = 1 / np.asarray(needed(np.arange(1, 100_001), 0.9))
    assert chances.sum() == pytest.approx(0.1, rel=1e-4)
    assert needed(0, 0.9) == pytest.approx(10)


def test_a_challenger_that_ranks_as_the_champion_does_uses_up_no_place():
    worse, same = trial(WORSE, BETTER), trial(BETTER, BETTER, tried={"number": 2})
    assert [gate.next_number(before) for before in ([], [same], [worse], [worse, same])] == [1, 1, 2, 2]
    assert not verdict(same, confidence=0).promoted  # so it needs no place


@pytest.mark.parametrize(
    "gains", [[(0.9, -0.1), (0.1, 0.9)], [(0.5, 1.0), (0.5, -1.0)], [(0.96, 0.0), (0.02, 1.0), (0.02, -1.0)]]
)
def test_no_stake_is_expected_to_win_where_no_gain_is(gains):
    chances, values = np.array(gains).T
    assert chances @ values == pytest.approx(0)
    assert (chances @ np.exp(gate.winnings(values)) <= 1 + 1e-12).all()


def test_no_stake_is_ruined_by_one_user_whatever_the_minimum_gain():
    assert np.isfinite(gate.winnings(np.array([-1.0, 1.0]), 0.6)).all()


def test_a_trial_by_other_stakes_counts_for_nothing():
    first = trial(BETTER, WORSE)
    older = first.model_copy(update={"winnings": first.winnings[1:]})
    again = trial(BETTER, WORSE, before=older, tried={"role": "shadow"})
    assert (again.all_users, again.winnings) == (first.all_users, first.winnings)


def test_the_challenger_with_most_of_what_it_needs_is_promoted_and_the_one_ahead_stays():
    shadow = trial(BETTER, WORSE, tried={"role": "shadow", "model": "earlier"})
    candidate = trial(BETTER, WORSE, tried={"number": 2})
    found = verdict(shadow, candidate)
    assert (found.promoted, found.winner) == (True, "earlier")
    assert found.reason.startswith("Promoted: the model of night earlier, judged again: ndcg@20 rose ")
    lucky = trial(np.array([1.0] * 3 + [0.0] * 197), np.zeros(200), tried={"role": "shadow", "model": "earlier"})
    assert verdict(lucky, trial(WORSE, BETTER, tried={"number": 2})).shadow == "earlier"


def test_before_the_first_champion_nothing_stays_as_shadow():
    lucky = trial(np.array([1.0] * 3 + [0.0] * 197), np.zeros(200), tried={"champion": "", "number": 0})
    found = verdict(lucky)
    assert (found.promoted, found.shadow, found.needed) == (False, None, 10.0)
    assert found.reason.endswith(" There is no champion yet.")


def test_a_better_candidate_that_clearly_loses_for_a_slice_is_rejected_by_name():
    candidate, incumbent = np.array([1.0] * 90 + [0.0] * 30), np.array([0.0] * 90 + [0.25] * 30)
    slices = {"new users": np.arange(120) >= 90, "everyone else": np.arange(120) < 90}
    found = trial(candidate, incumbent, slices=slices)
    strict = verdict(found, maximum_slice_loss=0.1)
    assert not strict.promoted
    assert strict.reason.startswith(
        "Rejected: new users lose 0.250, and at most 0.1 is allowed, although ndcg@20 rose "
    )
    assert strict.slices == pytest.approx({"new users": -0.25, "everyone else": 1.0})
    assert verdict(found, maximum_slice_loss=0.25).promoted
    small = trial(candidate, incumbent, slices={"29 new users": np.arange(120) >= 91})
    assert verdict(small, maximum_slice_loss=0.1).promoted


def test_a_slice_may_lose_two_of_its_standard_errors():
    candidate, incumbent = np.ones(136), np.zeros(136)
    candidate[100:118], incumbent[118:] = 0.0, 1.0
    candidate[118:] = 0.0  # 36 users: 18 without a gain, 18 who lose 1: mean -0.5, deviation 0.5, error 0.5 / 6
    found = trial(candidate, incumbent, slices={"new users": np.arange(136) >= 100})
    assert found.slices["new users"] == pytest.approx((-0.5, 0.5 / 6))
    assert "at most 0.167 is allowed" in verdict(found).reason
    assert verdict(found, maximum_slice_loss=None).promoted


def test_evidence_stays_a_number_however_many_users_gain():
    found = trial(np.ones(5000), np.zeros(5000))
    assert math.isfinite(found.evidence)
    assert verdict(found).promoted


def test_other_numbers_of_users_are_an_error():
    with pytest.raises(DataError, match="evaluate both on the same cases"):
        trial(np.ones(3), np.ones(4))


def test_in_simulated_years_without_a_better_candidate_hardly_one_is_promoted_and_a_better_one_is_found():
    random = np.random.default_rng(0)
    equal = years.Years(years.town("ndcg@20", 0.45, 1.0), 500, 50, random)
    assert (equal.first_promotion(60, years.NIGHTS_A_YEAR) > 0).mean() <= 0.1
    better = years.Years(years.town("ndcg@20", 0.02, 1.2), 8696, 870, random)
    assert (better.first_promotion(60, 10) > 0).mean() >= 0.8
