import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dealrec_core.coreset import coverage
from dealrec_core.coreset.base import Options, Pool


def test_fifths_follow_ranks_and_keep_equals_together():
    assert coverage.fifths(np.array([5.0, 1.0, 2.0, 3.0, 4.0])).tolist() == [4, 0, 1, 2, 3]
    assert coverage.fifths(np.array([1.0, 1.0, 1.0, 1.0, 9.0])).tolist() == [0, 0, 0, 0, 4]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40))
def test_fifths_are_five_times_the_share_of_smaller_values(values):
    expected = [5 * sum(other < value for other in values) // len(values) for value in values]
    assert coverage.fifths(np.array(values)).tolist() == expected


def test_a_floor_is_the_guaranteed_share_of_the_proportional_number():
    # 8 and 2 of 10, budget 5, a third: 5 / 3 · 0.8 = 1.33 and 5 / 3 · 0.2 = 0.33; only the first has a floor
    found = coverage.floors([np.array([0] * 8 + [1] * 2)], Options(budget=5, coverage=1 / 3))
    assert [(rows.tolist(), floor) for rows, floor in found] == [(list(range(8)), 1)]


def test_a_category_that_influence_passes_over_still_gets_its_floor():
    # all 300 of category 1 share the lowest group, the others are spread over the rest: Algorithm 2 alone would take about one
    random = np.random.default_rng(0)
    category = np.array([1] * 300 + [0] * 700)
    influence = np.where(category == 1, 0.0, random.random(1000) + 1)
    features = {"category": category, "popularity": random.random(1000), "recency": random.random(1000)}
    options = Options(budget=50, groups=50, effort_weight=0.0, normalisation="none", coverage=1 / 3)
    rows = coverage.choose(Pool(influence, np.zeros(1000), features), options).rows
    assert len(rows) == 50
    assert (category[rows] == 1).sum() >= 5  # floor(50 / 3 · 0.3)
    for name in ("popularity", "recency"):
        assert np.bincount(coverage.fifths(features[name])[rows], minlength=5).min() >= 3  # floor(50 / 3 / 5)


def test_the_guarantees_of_three_traits_never_exceed_the_budget():
    random = np.random.default_rng(1)
    traits = [random.integers(0, 7, 500) for _ in range(3)]
    assert sum(floor for _, floor in coverage.floors(traits, Options(budget=100, coverage=1 / 3))) <= 100


def test_with_the_rule_highest_the_rest_is_greedy_above_the_floors():
    # ten of category 1 score lowest; budget 10, a third of 10/20 of the budget: one floor of floor(10 / 3 · .5) = 1 each
    influence = np.arange(20.0)
    category = np.array([1] * 10 + [0] * 10)
    features = {"category": category, "popularity": np.zeros(20), "recency": np.zeros(20)}
    options = Options(budget=10, effort_weight=0.0, normalisation="none", coverage=1 / 3, fill="highest")
    rows = coverage.choose(Pool(influence, np.zeros(20), features), options).rows
    # floors: category 1 takes row 9, category 0 row 19, the one popularity and recency class 3 of all: 18 and 17 beside 19
    assert rows.tolist() == [9, 11, 12, 13, 14, 15, 16, 17, 18, 19]
