import numpy as np
import pytest

from dealrec_core.coreset import dsir
from dealrec_core.coreset.base import Options, Pool


def test_a_weight_is_the_recent_share_over_the_share_of_the_pool():
    # item 7: half of the pool, all of what is recent and can be had; item 3: half of the pool, never recent; item 9 is in no sample
    found = np.exp(dsir.log_weights(np.array([7, 3, 7, 3]), np.array([7, 9, 7])))
    assert found == pytest.approx([(1 / 0.5 + 0.1) / 1.1, 0.1 / 1.1, (1 / 0.5 + 0.1) / 1.1, 0.1 / 1.1])


def test_without_any_recent_target_the_draw_is_uniform():
    assert set(dsir.log_weights(np.array([1, 2, 2]), np.array([], dtype=np.int64))) == {np.log(0.1 / 1.1)}


def test_the_chosen_targets_are_distributed_as_the_recent_ones():
    # item 1 is a tenth of the pool and half of the recent: of 200 drawn about 0.55 / 1.1 + ... = (0.5 + 0.1 · 0.1) / 1.1 = 46%
    items = np.repeat([1, 2], [1000, 9000])
    pool = Pool(np.zeros(10_000), np.zeros(10_000), {"item": items}, {"item": np.array([1, 2])})
    rows = dsir.choose(pool, Options(budget=200, seed=0)).rows
    assert len(rows) == 200
    assert (items[rows] == 1).mean() == pytest.approx(0.46, abs=0.1)  # three standard deviations


def test_the_seed_decides_the_draw():
    pool = Pool(np.zeros(50), np.zeros(50), {"item": np.arange(50)}, {"item": np.arange(50)})
    draws = [dsir.choose(pool, Options(budget=5, seed=seed)).rows.tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
