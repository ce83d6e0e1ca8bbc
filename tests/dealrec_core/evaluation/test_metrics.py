import math

import numpy as np
import pytest

from dealrec_core.errors import DataError
from dealrec_core.evaluation import metrics

LISTS = [["a", "b", "c"], ["a", "b", "c"], ["a"]]
TARGETS = [["b"], ["a", "c", "x", "y"], ["z"]]


def test_recall_is_the_share_of_targets_found():
    assert metrics.recall(LISTS, TARGETS, k=3).tolist() == [1.0, 0.5, 0.0]
    assert metrics.recall(LISTS, TARGETS, k=1).tolist() == [0.0, 0.25, 0.0]


def test_ndcg_discounts_by_place_and_divides_by_the_best_order():
    best_of_three = 1 + 1 / math.log2(3) + 1 / 2
    expected = [1 / math.log2(3), (1 + 1 / 2) / best_of_three, 0.0]
    assert metrics.ndcg(LISTS, TARGETS, k=3) == pytest.approx(expected)


def test_mrr_is_one_over_the_place_of_the_first_hit():
    assert metrics.mrr(LISTS, TARGETS, k=3).tolist() == [0.5, 1.0, 0.0]


def test_a_target_named_twice_counts_once():
    assert metrics.recall([["a"]], [["a", "a"]], k=1).tolist() == [1.0]


def test_a_user_without_targets_is_refused():
    with pytest.raises(DataError, match="without targets"):
        metrics.recall([["a"]], [[]], k=1)


def test_coverage_counts_items_that_somebody_sees():
    assert metrics.coverage(LISTS, item_count=10, k=2) == 0.2


def test_popularity_lift_compares_what_is_shown_with_what_is_taken():
    counts = {"a": 8, "b": 4, "c": 1}
    # shown: user 1 (8 + 4) / 2 = 6, user 2 (8 + 0) / 2 = 4, mean 5; taken: 4 and 1, mean 2.5
    assert metrics.popularity_lift([["a", "b", "c"], ["a", "new"]], [["b"], ["c"]], counts, k=2) == 2.0


def test_popularity_lift_of_nothing_is_not_a_number():
    assert math.isnan(metrics.popularity_lift([[]], [["a"]], {"a": 1}, k=2))
    assert math.isnan(metrics.popularity_lift([["a"]], [["new"]], {"a": 1}, k=2))


def test_the_interval_of_a_constant_difference_is_a_point():
    found = metrics.paired_difference(np.ones(5), np.full(5, 0.25), resamples=50, seed=0)
    assert (found.mean, found.low, found.high, found.probability) == (0.75, 0.75, 0.75, 1.0)


def test_the_interval_has_the_width_that_theory_gives():
    difference = np.tile([0.0, 1.0], 200)
    found = metrics.paired_difference(difference, np.zeros(400), resamples=4000, seed=0)
    error = 0.5 / math.sqrt(400)  # standard deviation 0.5
    assert found.mean == 0.5
    assert found.low == pytest.approx(0.5 - 1.96 * error, abs=0.005)
    assert found.high == pytest.approx(0.5 + 1.96 * error, abs=0.005)


def test_different_users_cannot_be_compared():
    with pytest.raises(DataError, match="3 and 2 users"):
        metrics.paired_difference(np.zeros(3), np.zeros(2), resamples=10, seed=0)
