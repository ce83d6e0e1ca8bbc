import numpy as np
import pytest

from dealrec_core.coreset.combine import combine, normalise


def test_ranks_go_from_zero_to_one_and_ties_share_their_mean():
    assert normalise(np.array([30.0, 10.0, 20.0, 20.0, 40.0]), "rank").tolist() == [0.75, 0.0, 0.375, 0.375, 1.0]


def test_minmax_lets_one_outlier_decide():
    assert normalise(np.array([0.0, 1.0, 100.0]), "minmax").tolist() == [0.0, 0.01, 1.0]


def test_robust_divides_by_the_scaled_median_deviation():
    assert normalise(np.array([1.0, 2.0, 3.0]), "robust") == pytest.approx([-1 / 1.4826, 0, 1 / 1.4826])


@pytest.mark.parametrize("how", ["rank", "minmax", "robust"])
def test_equal_values_become_zeros(how):
    assert normalise(np.full(3, 5.0), how).tolist() == [0, 0, 0]


def test_scores_are_influence_plus_weighted_effort_as_in_equation_13():
    overall, share = combine(np.array([1.0, 2.0]), np.array([10.0, 30.0]), effort_weight=0.5, normalisation="none")
    assert overall.tolist() == [6.0, 17.0]
    assert share == pytest.approx(10 / 11)  # effort contributes 10 of the difference of 11


def test_without_variance_there_is_no_share():
    assert combine(np.ones(3), np.ones(3), effort_weight=1, normalisation="rank")[1] == 0.0
