"""Gains over a reference: by hand, and by null data, on which at most one verdict in twenty may be false."""

import numpy as np
import pytest
from scipy.stats import t as student

from benchmarks.comparisons import false_verdicts
from dealrec_core.errors import DataError
from dealrec_core.study.gains import gain


def test_a_gain_by_hand():
    """Seeds' means are 2 ± 1 and 0 ± 1 around what users add, and nothing is left over: the variance is 2 / 2 + 2 / 2, of two degrees."""
    users = np.array([0.0, 5.0, 7.0])
    first, second = users + np.array([[1.0], [3.0]]), users + np.array([[-1.0], [1.0]])
    found = gain(first, second)
    assert found.mean == pytest.approx(2)
    assert found.error == pytest.approx(np.sqrt(2 / 2 + 2 / 2))
    assert found.high - found.mean == pytest.approx(student.ppf(0.975, 2) * np.sqrt(2))
    assert found.p == pytest.approx(2 * student.sf(2 / np.sqrt(2), 2))


def test_users_who_gain_differently_are_a_part_of_their_own():
    """Both seeds are alike and the users gain 0, 1 and 2: a variance of 1 over 3 users, of two degrees."""
    second = np.zeros((2, 3))
    found = gain(second + np.arange(3.0), second)
    assert found.error == pytest.approx(np.sqrt(1 / 3))
    assert found.low == pytest.approx(1 - student.ppf(0.975, 2) * np.sqrt(1 / 3))


def test_a_reference_may_have_more_seeds_and_the_order_of_seeds_is_nothing():
    random = np.random.default_rng(0)
    first, second = random.standard_normal((5, 40)), random.standard_normal((10, 40))
    found = gain(first, second)
    assert found.mean == pytest.approx(first.mean() - second.mean())
    assert gain(first[::-1], second[::-1]).error == pytest.approx(found.error)
    assert gain(second, first).mean == -found.mean


def test_equal_values_have_no_gain_and_no_doubt():
    same = gain(np.ones((2, 3)), np.ones((4, 3)))
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_other_users_or_one_user_are_no_comparison():
    for first, second in (((2, 3), (2, 4)), ((2, 1), (2, 1)), ((3,), (3,))):
        with pytest.raises(DataError, match="both need the same users"):
            gain(np.ones(first), np.ones(second))


def test_what_would_be_needed_is_enough_and_one_less_is_not():
    random = np.random.default_rng(1)
    parts = gain(random.standard_normal((5, 300)), 0.05 * random.standard_normal((10, 1)) + np.zeros((10, 300))).parts
    wanted = 0.7 * parts.smallest(confidence=0.95)
    seeds, users = parts.seeds_for(wanted, confidence=0.95), parts.users_for(wanted, confidence=0.95)
    assert seeds is not None
    assert parts.smallest(confidence=0.95, seeds=(seeds, seeds)) <= wanted
    assert parts.smallest(confidence=0.95, seeds=(seeds - 1, seeds - 1)) > wanted
    assert users is None or parts.smallest(confidence=0.95, users=users) <= wanted < parts.smallest(
        confidence=0.95, users=users - 1
    )


def test_no_number_of_users_makes_up_for_seeds_that_differ():
    parts = gain(np.array([[0.0, 0.0], [1.0, 1.0]]), np.zeros((2, 2))).parts
    assert parts.users_for(0.01, confidence=0.95) is None


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0, 20.0])
def test_null_data_gives_at_most_one_false_verdict_in_twenty(ratio):
    """1,000 null data sets of five seeds against ten; 0.05 and three standard deviations of a share of them is 0.071."""
    found = false_verdicts(ratio, seeds=(5, 10), users=60, data_sets=1000, seed=0)
    assert found["t"] <= 0.071
