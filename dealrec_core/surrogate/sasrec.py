"""SASRec: a causal transformer over item histories (Kang and McAuley 2018, "Self-attentive sequential recommendation").

Attention is written out, because forward-mode differentiation does not exist for the fused kernel. Deviations from the
paper: layer norm stands before queries, keys and values, and positions count from the first item of the
history (there is no padding to count through).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dealrec_core.surrogate.base import Predictions, Surrogate


class Shape(NamedTuple):
    """Sizes from which the network can be built again."""

    item_count: int
    width: int = 64
    layers: int = 2
    heads: int = 2
    history_length: int = 50
    dropout: float = 0.2


class Transformer(Surrogate):
    """Causal blocks over item histories, not yet initialised."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.items = nn.Embedding(shape.item_count, shape.width)
        self.positions = nn.Parameter(torch.empty(shape.history_length, shape.width))
        self.blocks = nn.ModuleList(Block(shape.width, shape.heads, shape.dropout) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.released_parameter = f"blocks.{shape.layers - 1}.attention.output.weight"

    def hidden(self, items: Tensor, table: Tensor) -> Tensor:
        """The state after every item of histories (B, L): (B, L, D)."""
        states = self._embed(items, table)
        for block in self.blocks:
            states = block(states)
        return self.norm(states)

    def last(self, items: Tensor, table: Tensor) -> Tensor:
        """The state (B, D) after histories (B, L); the last block computes that one position only."""
        states = self._embed(items, table)
        for block in self.blocks[:-1]:
            states = block(states)
        return self.norm(self.blocks[-1](states, last_only=True))[:, -1]

    def _embed(self, items: Tensor, table: Tensor) -> Tensor:
        items = items[:, -self.shape.history_length :]
        vectors = scaled(functional.embedding(items, table), math.sqrt(self.shape.width))  # (B, L, D)
        return self.dropout(vectors + self.positions[: items.shape[1]])


class SASRec(Transformer):
    """Causal: every position predicts the next item."""

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        self.apply(initialise)
        nn.init.normal_(self.positions, std=0.02)

    def predictions(self, windows: Tensor, table: Tensor, *, seed: int) -> Predictions:
        """Every item of windows (B, L + 1) but the first is predicted from those before it: (B·L, D), (B·L,)."""
        return Predictions(self.hidden(windows[:, :-1], table).flatten(0, 1), windows[:, 1:].flatten())


class Block(nn.Module):
    """Pre-norm transformer block; the feed-forward part keeps the width, as in SASRec."""

    def __init__(self, width: int, heads: int, dropout: float, *, causal: bool = True, expansion: int = 1) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout, causal=causal)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, *, last_only: bool = False) -> Tensor:
        """(B, L, D) to (B, L, D), or to (B, 1, D) with `last_only`."""
        normed = self.attention_norm(states)
        residual = states[:, -1:] if last_only else states
        residual = residual + self.dropout(self.attention(normed, last_only=last_only))
        inner = functional.gelu(self.expand(self.feed_forward_norm(residual)))
        return residual + self.dropout(self.contract(self.dropout(inner)))


class Attention(nn.Module):
    """Multi-head self-attention, written out."""

    def __init__(self, width: int, heads: int, dropout: float, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, *, last_only: bool = False) -> Tensor:
        """(B, L, D) to (B, L, D), or to (B, 1, D) with `last_only`."""
        querying = states[:, -1:] if last_only else states
        query, key, value = (
            self._split(projected) for projected in (self.query(querying), self.key(states), self.value(states))
        )
        scores = scaled(query @ key.transpose(-1, -2), 1 / math.sqrt(query.shape[-1]))  # (B, heads, L, L)
        if self.causal and not last_only:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        mixed = self.dropout(scores.softmax(-1)) @ value
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, D / heads)


def scaled(values: Tensor, factor: float) -> Tensor:
    """values · factor. With `*` the factor becomes a tensor, and forward mode spends four times as long on its zero derivative."""
    return torch.ops.aten.mul.Scalar(values, factor)


def initialise(module: nn.Module) -> None:
    """Small normal weights and zero biases; for `nn.Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
