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
