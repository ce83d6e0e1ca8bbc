"""SASRec sees the past only, and its short cut for the last position changes nothing."""

import pytest
import torch

from dealrec_core.surrogate import networks
from dealrec_core.surrogate.sasrec import Shape


@pytest.fixture
def model():
    return networks.build("sasrec", Shape(9, width=8, heads=2, history_length=6), seed=0).double().eval()


def test_the_last_state_is_the_last_of_all_states(model) -> None:
    histories = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    table = model.item_table()
    torch.testing.assert_close(model.last(histories, table), model.hidden(histories, table)[:, -1])


def test_later_items_do_not_reach_earlier_states(model) -> None:
    table = model.item_table()
    one, other = (model.hidden(torch.tensor([[1, 2, 3, last]]), table) for last in (4, 8))
    torch.testing.assert_close(one[:, :3], other[:, :3])
    assert not torch.allclose(one[:, 3], other[:, 3])


def test_only_the_latest_items_of_a_long_history_count(model) -> None:
    table = model.item_table()
    long = torch.tensor([[8, 8, 1, 2, 3, 4, 5, 6]])
    torch.testing.assert_close(model.last(long, table), model.last(long[:, 2:], table))
