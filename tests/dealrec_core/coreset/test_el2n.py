import numpy as np

from dealrec_core.coreset import el2n
from dealrec_core.coreset.base import Options, Pool


def test_the_largest_errors_are_chosen():
    pool = Pool(np.zeros(3), np.zeros(3), {"el2n": np.array([0.1, 0.9, 0.5])})
    assert el2n.choose(pool, Options(budget=2)).rows.tolist() == [1, 2]
