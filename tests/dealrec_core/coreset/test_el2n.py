import numpy as np
import pytest

from dealrec_core.coreset import el2n
from dealrec_core.coreset.base import Options, Pool


def test_the_error_norm_is_the_distance_to_the_one_hot_target():
    found = el2n.error_norms(np.array([[0.6, 0.4], [0.0, 1.0]]), np.array([0, 1]))
    assert found == pytest.approx([(0.4**2 + 0.4**2) ** 0.5, 0.0])


def test_the_largest_errors_are_chosen():
    pool = Pool(np.zeros(3), np.zeros(3), {"el2n": np.array([0.1, 0.9, 0.5])})
    assert el2n.choose(pool, Options(budget=2)).rows.tolist() == [1, 2]
