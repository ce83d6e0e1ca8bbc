import numpy as np

from dealrec_core.coreset import ccs
from dealrec_core.coreset.base import Options, Pool


def test_the_hardest_share_is_dropped_and_every_stratum_served():
    errors = np.array([0.0, 0.1, 0.2, 1.0, 1.1, 1.2, 50.0, 60.0])  # the hardest quarter is 50 and 60
    pool = Pool(np.zeros(8), np.zeros(8), {"el2n": errors})
    choice = ccs.choose(pool, Options(budget=2, groups=2, hard_prune=0.25))
    assert choice.groups[choice.rows].tolist() == [0, 1]
    assert choice.rows[1] < 6


def test_by_default_three_tenths_are_dropped_as_the_authors_do():
    errors = np.arange(10.0)  # 7, 8 and 9 are the hardest three tenths; the others are in two groups of equal width
    pool = Pool(np.zeros(10), np.zeros(10), {"el2n": errors})
    assert ccs.choose(pool, Options(budget=7, groups=2)).rows.tolist() == [0, 1, 2, 3, 4, 5, 6]
