"""DCRec: its table by dense matrices, its state in both ways, its contrast by hand, its graphs on disk."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import checkpoint, graphs, networks
from dealrec_core.surrogate.dcrec import _contrast
from dealrec_core.surrogate.sasrec import Shape

WINDOWS = [np.array([[1, 2, 3, 4], [5, 6, 7, 8]]), np.array([[1, 3], [0, 5]])]


@pytest.fixture
def model():
    built = networks.build("dcrec", Shape(9, width=8, heads=2, history_length=6), seed=0).double().eval()
    built.read(WINDOWS)
    return built


def test_the_table_holds_items_and_their_views_in_both_graphs(model) -> None:
    items = model.items.weight.detach()
    blocks = [items]
    for matrix in (graphs.transitions(WINDOWS, item_count=9), graphs.companions(WINDOWS, item_count=9)):
        dense = torch.from_numpy(matrix.toarray())
        light = (items + dense @ items + dense @ dense @ items) / 3
        blocks.append(functional.layer_norm(items + light, (8,)))
    torch.testing.assert_close(model.item_table(), torch.cat(blocks, 1))


def test_the_last_state_is_the_one_that_training_sees(model) -> None:
    windows = torch.from_numpy(WINDOWS[0])
    table = model.item_table()
    states, targets, _ = model.predictions(windows, table, seed=0)
    torch.testing.assert_close(states.view(2, 3, 8)[:, -1], model.last(windows[:, :-1], table))
    assert targets.tolist() == [2, 3, 4, 6, 7, 8]


def test_later_items_do_not_reach_earlier_states(model) -> None:
    table = model.item_table()
    one, other = (model.predictions(torch.tensor([[1, 2, 3, end, 0]]), table, seed=0).states for end in (4, 8))
    torch.testing.assert_close(one[:3], other[:3])
    assert not torch.allclose(one[3], other[3])


def test_a_contrast_by_hand() -> None:
    """Two histories, the first pair equal, the second at a right angle to everything: −1 + log(e + 1) and log 2."""
    ours, theirs = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[5.0, 0.0], [1.0, 0.0]])
    expected = [math.log(2 * math.e) - 1, math.log(2)]
    assert _contrast(ours, theirs).tolist() == pytest.approx(expected)


def test_an_item_that_lives_by_other_histories_conforms_more(model) -> None:
    """Item 3 also follows 1 in another window; item 7 has nothing but its own."""
    conformity = model._conformity(torch.from_numpy(WINDOWS[0]))
    assert conformity[0] > conformity[1]
    assert conformity.mean().item() == pytest.approx(0.5)
    assert model._conformity(torch.from_numpy(WINDOWS[1])).tolist() == [0.5, 0.5]


def test_graphs_come_back_from_disk(model, tmp_path) -> None:
    checkpoint.save(tmp_path, model, item_ids=list("abcdefghi"), config=SurrogateConfig(network="dcrec"), lineage={})
    loaded, _, _ = checkpoint.load(tmp_path)
    assert torch.equal(loaded.item_table(), model.item_table())
    assert torch.equal(loaded.transitions.edges, model.transitions.edges)
