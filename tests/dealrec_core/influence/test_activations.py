"""One layer with stored activations against the same operators without them, which are tested against the dense answer."""

import numpy as np
import pytest
import torch

from dealrec_core.influence import activations, losses, operators
from dealrec_core.influence.operators import Problem
from dealrec_core.samples.sequences import Sequences
from dealrec_core.surrogate import networks
from dealrec_core.surrogate.sasrec import Shape

ITEMS = 7
LAYERS = {
    "sasrec": ["released", "layer:blocks.0.attention.query", "layer:blocks.1.contract.bias"],
    "bert4rec": ["released", "layer:blocks.0.expand"],
    "gru4rec": ["released", "layer:cells.0.recurrent", "layer:cells.1.input.weight"],
    "dcrec": ["released", "layer:fusion"],
}
PLACES = [(name, which) for name, layers in LAYERS.items() for which in layers]


def sequences(count: int, *, seed: int) -> Sequences:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 5, count)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Sequences(random.integers(0, ITEMS, lengths.sum()), offsets, random.integers(0, ITEMS, count))


def problem(name: str, which: str, loss: str) -> Problem:
    network = networks.build(name, Shape(ITEMS, width=4, layers=2, heads=2, history_length=6), seed=0).double()
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.5 * torch.randn(value.shape, generator=noise, dtype=torch.float64))
    fixed = losses.build(loss, item_count=ITEMS, negatives=3, seed=5)
    return operators.problem(network, which, fixed, batch_tokens=8, device="cpu")


def some_direction(task: Problem) -> torch.Tensor:
    return torch.randn(task.parameters.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(("name", "which"), PLACES)
@pytest.mark.parametrize("loss", ["softmax", "sampled", "bce"])
def test_products_and_scores_are_those_of_the_whole_network(name: str, which: str, loss: str) -> None:
    samples, task = sequences(9, seed=2), problem(name, which, loss)
    direction = some_direction(task)
    found = activations.store(task, samples, most_bytes=2**30)
    assert found is not None
    assert not len(found.rest)
    wanted = operators.gauss_newton(task, samples, direction)
    assert (activations.gauss_newton(found, direction) - wanted).norm() <= 1e-10 * wanted.norm()
    wanted = operators.directional(task, samples, direction)
    np.testing.assert_allclose(
        activations.directional(found, direction), wanted, rtol=0, atol=1e-10 * np.abs(wanted).max()
    )


def test_beyond_the_bound_nothing_is_kept_and_nothing_changes() -> None:
    samples, task = sequences(30, seed=2), problem("sasrec", "released", "softmax")
    direction = some_direction(task)
    whole = activations.store(task, samples, most_bytes=2**30)
    part = activations.store(task, samples, most_bytes=whole.size_bytes // 2)
    assert 0 < len(part.rest) < 30
    assert len(part.rest) + sum(len(batch.rows) for batch in part.batches) == 30
    torch.testing.assert_close(activations.gauss_newton(part, direction), activations.gauss_newton(whole, direction))
    np.testing.assert_allclose(
        activations.directional(part, direction), activations.directional(whole, direction), atol=1e-12
    )


@pytest.mark.parametrize("which", ["all", "layer:blocks.1", "layer:items", "layer:norm"])
def test_what_is_not_one_linear_layer_is_not_kept(which: str) -> None:
    assert activations.store(problem("sasrec", which, "softmax"), sequences(4, seed=0), most_bytes=2**30) is None


def test_every_network_has_a_layer_that_can_be_kept() -> None:
    assert set(LAYERS) == set(networks.NETWORKS)
