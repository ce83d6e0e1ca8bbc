import numpy as np
import pytest

from dealrec_core.coreset import datainf
from dealrec_core.coreset.base import Options, Pool
from dealrec_core.errors import DataError


def test_scores_equal_the_mean_of_the_dense_inverses():
    random = np.random.default_rng(0)
    gradients, reference = random.normal(size=(5, 3)), random.normal(size=(2, 3))
    damping = 0.1 * np.mean([gradient @ gradient for gradient in gradients]) / 3
    inverse = np.mean([np.linalg.inv(damping * np.eye(3) + np.outer(g, g)) for g in gradients], axis=0)
    wanted = gradients @ inverse @ reference.mean(axis=0)
    assert datainf.influence(gradients, reference) == pytest.approx(wanted, rel=1e-10)


def test_one_number_by_hand():
    # g = 1, v = 2: λ = 0.1, h = (2 - 1 · 2 / 1.1) / 0.1 = 2 / 1.1
    assert datainf.influence(np.array([[1.0]]), np.array([[2.0]])) == pytest.approx([2 / 1.1])


def test_layers_are_added():
    layers = {"gradient.a": np.array([[1.0], [0.0]]), "gradient.b": np.array([[0.0], [3.0]])}
    aims = {"gradient.a": np.array([[1.0]]), "gradient.b": np.array([[1.0]])}
    choice = datainf.choose(Pool(np.zeros(2), np.zeros(2), layers, aims), Options(budget=1))
    wanted = [datainf.influence(layers[name], aims[name]) for name in layers]
    assert choice.scores == pytest.approx(wanted[0] + wanted[1])


def test_without_gradients_there_is_an_error():
    with pytest.raises(DataError, match="needs a column 'gradient'"):
        datainf.choose(Pool(np.zeros(1), np.zeros(1)), Options(budget=1))
