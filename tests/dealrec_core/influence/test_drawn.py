"""A few drawn outputs against the whole curvature of the loss."""

import numpy as np
import pytest
import torch

from dealrec_core.influence import drawn, losses
from dealrec_core.influence.drawn import Drawn
from tests.dealrec_core.influence.test_scores import LOSSES

ITEMS, WIDTH, SAMPLES = 9, 4, 6


def test_columns_stand_where_the_running_sum_reaches_their_places() -> None:
    """Sums 1, 1, 4: the first quarter belongs to column 0, nothing to column 1, the rest to column 2."""
    weights, at = torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[0.1, 0.2, 0.3, 0.99]])
    assert drawn.drawn_by(weights, at).tolist() == [[0, 0, 2, 2]]


def test_places_are_evenly_spaced_from_a_start_of_each_sample() -> None:
    found = drawn.places(np.arange(1000), 4).numpy()
    np.testing.assert_allclose(np.diff(found, axis=1), 0.25)
    np.testing.assert_allclose(np.histogram(found, bins=8, range=(0, 1))[0], 500, atol=5)


@pytest.mark.parametrize("name", LOSSES)
def test_many_draws_give_the_curvature_itself(name) -> None:
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    loss = losses.build(name, item_count=ITEMS, negatives=5, seed=1)
    state, table, state_dot, table_dot = (normal(*shape) for shape in ((SAMPLES, WIDTH), (ITEMS, WIDTH)) * 2)
    targets, rows = torch.arange(SAMPLES), np.arange(SAMPLES)
    items, weights = loss.drawn(state, table, targets, at=drawn.places(rows, 20_000))
    stand_in = Drawn(items, weights, centred=name != "bce")
    for along in ((state_dot, table_dot), (state_dot, None), (None, table_dot)):
        wanted, found = (torch.zeros_like(table) for _ in range(2))
        options = {"state_dot": along[0], "table_dot": along[1]}
        by_state = loss.gauss_newton(state, table, targets, **options, into=wanted)
        nearly = stand_in.gauss_newton(rows, state, table, **options, into=found)
        np.testing.assert_allclose(nearly, by_state, atol=1e-3 * by_state.abs().max().item())
        np.testing.assert_allclose(found, wanted, atol=1e-3 * wanted.abs().max().item())
