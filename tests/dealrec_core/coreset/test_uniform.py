import numpy as np

from dealrec_core.coreset import uniform
from dealrec_core.coreset.base import Options, Pool


def test_every_sample_is_drawn_about_equally_often_whatever_its_score():
    pool = Pool(np.array([0.0, 1.0, 50.0, 1000.0]), np.zeros(4))
    draws = [int(uniform.choose(pool, Options(budget=1, seed=seed)).rows[0]) for seed in range(400)]
    assert np.bincount(draws, minlength=4).min() > 70  # 100 expected, standard deviation 8.7
