"""What every surrogate network can do, and how its item table follows a growing catalogue.

Axes: B batch, L history length, D width, V items, M predictions of a training batch.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from dealrec_core.errors import DataError

Network = TypeVar("Network", bound=nn.Module)


class Predictions(NamedTuple):
    """What a batch of training windows asks of a network."""

    states: Tensor
    """(M, D)."""
    targets: Tensor
    """Items (M,) that the states should rank first."""
    beside: Tensor | None = None
    """Summed loss that is trained beside the ranking, where a network has one."""


class Surrogate(Protocol):
    """A next-item network. Items are numbered from 0; there is no padding item and batches have one exact length.

    Logits are `state @ outputs(table, state).T`. The table is an argument so that a network which computes it (a graph
    convolution) does so once for many batches, and so that derivatives reach it from both sides.
    """

    items: nn.Embedding
    """One row per item; what `realigned` permutes and grows."""

    released_parameter: str
    """Name of the one weight that the released DEALRec code differentiates, or of its counterpart."""

    @property
    def item_count(self) -> int:
        """V."""
        ...

    def item_table(self) -> Tensor:
        """Output vectors of all items, (V, D); more columns behind them are for the network's own use."""
        ...

    def last(self, items: Tensor, table: Tensor) -> Tensor:
        """The state (B, D) after histories (B, L), oldest item first; it reads the rows of those items alone."""
        ...

    def predictions(self, windows: Tensor, table: Tensor, *, seed: int) -> Predictions:
        """Training predictions from windows (B, L + 1)."""
        ...


def outputs(table: Tensor, state: Tensor) -> Tensor:
    """The columns (V, D) of a table that logits for states (B, D) are made of."""
    return table[:, : state.shape[-1]]


def realigned(model: Network, *, item_ids: Sequence[str], wanted: Sequence[str], seed: int) -> Network:
    """A copy of `model` whose row n is the item `wanted[n]`: known items keep their vectors, new ones start small.

    A new row is drawn around the mean of the known ones at their spread, so that a new item is neither first nor last.

    Raises:
        DataError: `item_ids` does not describe the model's table.
    """
    weight = model.get_parameter("items.weight").detach()
    if len(item_ids) != len(weight):
        raise DataError(
            f"{len(item_ids)} item ids for a table of {len(weight)} rows; load the ids of the same checkpoint"
        )
    place = {item: row for row, item in enumerate(item_ids)}
    rows = torch.tensor([place.get(item, -1) for item in wanted], device=weight.device)
    return _with_table(model, _gathered(weight, rows, seed=seed))


def grown(model: Network, item_count: int, *, seed: int) -> Network:
    """A copy of `model` with `item_count` rows; the first ones are kept.

    Raises:
        DataError: the catalogue shrank.
    """
    weight = model.get_parameter("items.weight").detach()
    if item_count < len(weight):
        raise DataError(
            f"the surrogate knows {len(weight)} items, the catalogue {item_count}; use realigned() by item id"
        )
    rows = torch.arange(item_count, device=weight.device)
    return _with_table(model, _gathered(weight, torch.where(rows < len(weight), rows, -1), seed=seed))


def _gathered(weight: Tensor, rows: Tensor, *, seed: int) -> Tensor:
    noise = torch.randn(len(rows), weight.shape[1], generator=torch.Generator().manual_seed(seed)).to(weight)
    fresh = weight.mean(0) + weight.std(0, correction=0) * noise
    return torch.where(rows[:, None] >= 0, weight[rows.clamp(min=0)], fresh)


def _with_table(model: Network, weight: Tensor) -> Network:
    found = copy.deepcopy(model)
    found.add_module("items", nn.Embedding.from_pretrained(weight.clone(), freeze=False))
    return found
