"""The base class of surrogate networks, and item tables that follow a growing catalogue.

Axes: B batch, L history length, D width, V items, M predictions of a training batch.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from dealrec_core.errors import DataError

Network = TypeVar("Network", bound=nn.Module)


class Predictions(NamedTuple):
    """Predictions that a batch of training windows trains."""

    states: Tensor
    """(M, D)."""
    targets: Tensor
    """Items (M,) that the states should rank first."""
    beside: Tensor | None = None
    """Auxiliary loss added to the ranking loss, summed over the batch; None if the network has none."""


class NextItemModel(Protocol):
    """A next-item model that `influence.score` can score: any torch module with these three members. Batches have one exact length.

    Logits are `state @ item_table().T`.
    """

    @property
    def item_count(self) -> int:
        """V; items are numbered from 0."""
        ...

    def item_table(self) -> Tensor:
        """Output vectors of all items, (V, D)."""
        ...

    def last(self, items: Tensor, table: Tensor) -> Tensor:
        """The state (B, D) after histories (B, L), oldest item first; item vectors are read from `table`, not from a layer."""
        ...


class Surrogate(nn.Module):
    """Base of the next-item networks. Items are numbered from 0; there is no padding item and batches have one exact length.

    Logits are `state @ outputs(table, state).T`. The table is an argument so that a network which computes it (a graph
    convolution) does so once for many batches, and so that derivatives reach it from both sides.
    """

    items: nn.Embedding
    """One row per item; `grown` adds rows."""

    released_parameter: str
    """Name of the one weight that the released DEALRec code differentiates, or of its counterpart."""

    def read(self, windows: Sequence[np.ndarray]) -> None:
        """Computes buffers, where a network has some, from windows (W, L + 1) of the training histories."""

    @property
    def item_count(self) -> int:
        """V."""
        return self.items.num_embeddings

    def item_table(self) -> Tensor:
        """Output vectors of all items, (V, D), which are the input vectors too; further columns are for the network alone."""
        return self.items.weight

    def last(self, items: Tensor, table: Tensor) -> Tensor:
        """The state (B, D) after histories (B, L), oldest item first; it reads the table's rows of these items alone."""
        raise NotImplementedError

    def predictions(self, windows: Tensor, table: Tensor, *, seed: int) -> Predictions:
        """Training predictions from windows (B, L + 1)."""
        raise NotImplementedError


def outputs(table: Tensor, state: Tensor) -> Tensor:
    """The columns (V, D) of a table that give the logits of states (B, D)."""
    return table[:, : state.shape[-1]]


def grown(model: Network, item_count: int, *, seed: int) -> Network:
    """A copy of `model` with `item_count` rows, of which the first are its present rows.

    A new row is drawn around the mean of the present rows at their spread, so that a new item is neither first nor last.

    Raises:
        DataError: the catalogue shrank.
    """
    weight = model.get_parameter("items.weight").detach()
    if item_count < len(weight):
        raise DataError(f"the surrogate knows {len(weight)} items, the catalogue {item_count}; retrain it from scratch")
    noise = torch.randn(item_count, weight.shape[1], generator=torch.Generator().manual_seed(seed)).to(weight)
    fresh = weight.mean(0) + weight.std(0, correction=0) * noise
    resized = copy.deepcopy(model)
    rows = torch.cat([weight, fresh[len(weight) :]])
    resized.add_module("items", nn.Embedding.from_pretrained(rows, freeze=False))
    return resized
