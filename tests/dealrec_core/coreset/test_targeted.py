import numpy as np
import pytest

from dealrec_core.coreset import targeted
from dealrec_core.coreset.base import Options, Pool

ITEMS = np.array([7, 3, 7, 3])
RECENT = {"item": np.array([7, 7])}


def pool(influence: list[float], items: np.ndarray = ITEMS) -> Pool:
    return Pool(np.array(influence), np.zeros(len(influence)), {"item": items}, RECENT)


def test_the_weight_is_the_ratio_of_recent_to_pool_times_e_to_twice_the_rank_of_influence():
    # Item 7 is all that is recent and half of the pool, item 3 never recent; the ranks of influence are 0, 1/3, 2/3 and 1.
    weights = np.exp(targeted.choose(pool([1.0, 5.0, 9.0, 400.0]), Options(budget=1)).scores)
    often, never = (1 / 0.5 + 0.1) / 1.1, 0.1 / 1.1
    assert weights == pytest.approx([often, never * np.exp(2 / 3), often * np.exp(4 / 3), never * np.exp(2)])


def test_equal_influence_leaves_the_draw_of_dsir():
    scores = targeted.choose(pool([3.0] * 4), Options(budget=1)).scores
    assert np.exp(scores) == pytest.approx([2.1 / 1.1, 0.1 / 1.1, 2.1 / 1.1, 0.1 / 1.1])


def test_samples_are_drawn_by_their_weights():
    # One item: the upper half by influence has exp(2 · rank) of mean (e² - e) / 1, the lower half of mean e - 1: 73% to 27%.
    count = 10_000
    everything = pool(list(range(count)), np.full(count, 7))
    rows = targeted.choose(everything, Options(budget=400, seed=0)).rows
    assert (rows >= count / 2).mean() == pytest.approx(np.e / (1 + np.e), abs=0.07)  # three standard deviations


def test_the_seed_decides_the_draw():
    draws = [
        targeted.choose(pool([1.0, 2.0, 3.0, 4.0]), Options(budget=2, seed=seed)).rows.tolist() for seed in range(9)
    ]
    assert len({tuple(rows) for rows in draws}) > 1
    assert draws[0] == targeted.choose(pool([1.0, 2.0, 3.0, 4.0]), Options(budget=2, seed=0)).rows.tolist()
