import itertools

import numpy as np
import pytest

from dealrec_core.coreset import goracs

COSTS = np.array([[0.0, 9.0, 9.0], [9.0, 0.0, 1.0], [9.0, 1.0, 0.0], [4.0, 4.0, 4.0]])


def test_distances_are_euclidean():
    assert goracs.distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])).tolist() == [[5.0]]


def objective(costs: np.ndarray, bonus: np.ndarray, rows: np.ndarray) -> float:
    """Mean distance of the reference points to their nearest chosen sample, less the chosen bonuses; costs (N, M)."""
    return float(costs[rows].min(axis=0).mean() - bonus[rows].sum())


def test_exchanges_reach_the_best_pair_from_a_bad_start():
    bonus = np.zeros(4)
    best = min(objective(COSTS, bonus, np.array(pair)) for pair in itertools.combinations(range(4), 2))
    rows = goracs.exchange(COSTS, bonus, np.array([2, 3]), random=np.random.default_rng(0))
    assert objective(COSTS, bonus, rows) == pytest.approx(best)


def test_the_first_of_the_greedy_start_is_the_best_single_sample():
    # mean distances 6, 3.33, 3.33, 4
    assert goracs.start(COSTS, np.zeros(4), 1, random=np.random.default_rng(0)).tolist() == [1]


def test_a_large_gradient_bonus_decides():
    assert goracs.start(COSTS, np.array([0, 0, 0, 5.0]), 1, random=np.random.default_rng(0)).tolist() == [3]


def test_every_chosen_sample_serves_a_point_where_points_are_fewer_than_samples():
    # Two points, each with two near samples (costs 0 and 1); sample 4 is far from both and has by far the largest norm.
    costs = np.array([[0.0, 9.0], [1.0, 9.0], [9.0, 0.0], [9.0, 1.0], [8.0, 8.0]])
    bonus = np.array([0.0, 0.0, 0.0, 0.0, 0.2])
    # 4 chosen for 2 points: 2 serve each. Sample 4 in the place of 1 costs (8 - 1) / 2 / 2 = 1.75 and gains 0.2.
    assert goracs.served_by(costs, 4) == 2
    assert goracs.start(costs, bonus, 4, random=np.random.default_rng(0)).tolist() == [0, 1, 2, 3]
    assert goracs.exchange(costs, bonus, np.array([0, 2, 3, 4]), random=np.random.default_rng(0)).tolist() == [
        0,
        1,
        2,
        3,
    ]
