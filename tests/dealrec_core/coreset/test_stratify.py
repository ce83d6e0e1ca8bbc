import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dealrec_core.coreset import stratify


def test_groups_have_equal_width_and_the_largest_score_is_in_the_last():
    assert stratify.groups(np.array([0.0, 0.9, 1.0, 3.9, 4.0]), 4).tolist() == [0, 0, 1, 3, 3]


def test_equal_scores_are_one_group():
    assert stratify.groups(np.full(3, 7.0), 50).tolist() == [0, 0, 0]


def test_a_small_stratum_passes_its_rest_to_larger_ones():
    # budget 9 over sizes 10, 1, 5: the group of 1 gives 1 (of 3), the group of 5 then 4 (of 8 / 2), the group of 10 the last 4
    assert stratify.allot(np.array([10, 1, 5]), 9).tolist() == [4, 1, 4]


def test_empty_groups_are_no_groups():
    assert stratify.allot(np.array([0, 3, 0, 3]), 4).tolist() == [0, 2, 0, 2]


def test_a_budget_below_the_number_of_groups_is_spent_on_the_largest():
    # floor(2 / 3) = 0 for the smallest, floor(2 / 2) = 1 for the next, 1 is left for the largest
    assert stratify.allot(np.array([1, 2, 3]), 2).tolist() == [0, 1, 1]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(0, 3000))
def test_the_budget_is_always_spent_exactly(sizes, budget):
    taken = stratify.allot(np.array(sizes), budget)
    assert taken.sum() == min(budget, sum(sizes))
    assert (taken <= np.array(sizes)).all()
    assert (taken >= 0).all()


def test_drawing_takes_so_many_of_each_group_and_never_one_twice():
    membership = np.array([0, 1, 0, 1, 0, 2])
    rows = stratify.draw(membership, np.array([2, 1, 0]), seed=3)
    assert np.bincount(membership[rows], minlength=3).tolist() == [2, 1, 0]
    assert len(set(rows.tolist())) == 3
    assert rows.tolist() == stratify.draw(membership, np.array([2, 1, 0]), seed=3).tolist()


def test_every_member_of_a_group_is_drawn_about_equally_often():
    draws = [stratify.draw(np.zeros(4, dtype=int), np.array([1]), seed=seed)[0] for seed in range(400)]
    assert np.bincount(draws, minlength=4).min() > 70  # 100 expected, standard deviation 8.7


def test_proportional_shares_go_to_the_largest_remainders():
    # 5 of 10: 2.5, 1.5 and 1.0; the larger of two equal remainders gets the one that is left
    assert stratify.proportional(np.array([5, 3, 2]), 5).tolist() == [3, 1, 1]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(0, 3000))
def test_proportional_shares_spend_the_budget_within_the_sizes(sizes, budget):
    taken = stratify.proportional(np.array(sizes), budget)
    assert taken.sum() == min(budget, sum(sizes))
    assert (taken <= np.array(sizes)).all()


def test_spreading_within_some_rows_never_leaves_them():
    membership = np.array([0, 1, 2, 0, 1, 2])
    assert stratify.spread(membership, np.array([0, 3, 4]), 2, seed=0).tolist() in ([0, 4], [3, 4])
