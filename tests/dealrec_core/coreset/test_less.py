import numpy as np
import pytest

from dealrec_core.coreset import less
from dealrec_core.coreset.base import Options, Pool


def test_the_direction_counts_and_not_the_length():
    gradients = np.array([[0.1, 0.0], [100.0, 100.0], [-1.0, 0.0]])
    aim = np.array([[2.0, 0.0], [4.0, 0.0]])
    choice = less.choose(
        Pool(np.zeros(3), np.zeros(3), {"adam_gradient": gradients}, {"gradient": aim}), Options(budget=1)
    )
    assert choice.rows.tolist() == [0]
    assert choice.scores == pytest.approx([1, 0.5**0.5, -1])


def test_every_aim_has_one_weight_whatever_its_length():
    # Cosines of sample 0 to the aims: 1 and 0; of sample 1: 0 and 1. The long second aim counts no more than the first two together.
    aims = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 900.0]])
    pool = Pool(np.zeros(2), np.zeros(2), {"adam_gradient": np.eye(2)}, {"gradient": aims})
    assert less.choose(pool, Options(budget=1)).scores == pytest.approx([2 / 3, 1 / 3])
