import math

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


def test_an_item_that_a_list_repeats_counts_once() -> None:
    lists, targets = [["a", "a", "b"]], [["a"]]
    assert metrics.recall(lists, targets, k=3).tolist() == [1.0]
    assert metrics.ndcg(lists, targets, k=3).tolist() == [1.0]
    assert metrics.recall([["a", "a", "b"]], [["a", "b"]], k=3).tolist() == [1.0]
