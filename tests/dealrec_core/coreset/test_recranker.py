import numpy as np

from dealrec_core.coreset import recranker
from dealrec_core.coreset.base import Options, Pool


def test_repeats_count_the_owners_samples_with_a_higher_key():
    assert recranker.repeats(np.array([7, 7, 3, 7]), np.array([0.1, 0.9, 0.5, 0.4])).tolist() == [2, 0, 0, 1]


def chosen(lengths: np.ndarray, seed: int, **features: np.ndarray) -> np.ndarray:
    size = len(lengths)
    features |= {"history_length": lengths, "user": np.zeros((size, 2))}
    return recranker.choose(Pool(np.zeros(size), np.zeros(size), features), Options(budget=1, seed=seed)).rows


def test_a_history_of_length_one_weighs_nothing():
    assert {int(chosen(np.array([1, 1, 5, 1]), seed)[0]) for seed in range(20)} == {2}


def test_samples_are_drawn_in_proportion_to_the_logarithm_of_their_length():
    draws = [int(chosen(np.array([2, 8]), seed)[0]) for seed in range(400)]
    # log 8 = 3 log 2: 300 of 400 expected, standard deviation 8.7
    assert 265 < sum(draws) < 335


def test_every_cluster_of_users_is_served_in_proportion():
    size = 40
    user = np.repeat(np.arange(10.0), 4)[:, None] * 100
    pool = Pool(np.zeros(size), np.zeros(size), {"history_length": np.full(size, 5), "user": user})
    rows = recranker.choose(pool, Options(budget=20)).rows
    assert np.bincount(rows // 4).tolist() == [2] * 10


def test_further_samples_of_one_user_are_less_likely():
    owner = np.array([0] * 50 + list(range(1, 51)))
    shares = []
    for seed in range(40):
        features = {"history_length": np.full(100, 5), "user": np.zeros((100, 1)), "owner": owner}
        rows = recranker.choose(Pool(np.zeros(100), np.zeros(100), features), Options(budget=40, seed=seed)).rows
        shares.append((rows < 50).mean())
    assert np.mean(shares) < 0.42  # one half without the penalty
