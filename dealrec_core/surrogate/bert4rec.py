"""BERT4Rec: a transformer that sees both sides of a masked item (Sun et al. 2019).

To rank next items a mask is put after the history. Training masks a share of a window, and always its last item, because
ranking predicts the last item. Positions count back from the mask at the end, so that they mean the same at every length.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from dealrec_core.surrogate.base import Predictions, Surrogate
from dealrec_core.surrogate.sasrec import Block, Shape, initialise, scaled

MASKED_SHARE = 0.2


class BERT4Rec(Surrogate):
    """Histories are read in both directions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.items = nn.Embedding(shape.item_count, shape.width)
        self.mask = nn.Parameter(torch.empty(shape.width))
        self.positions = nn.Parameter(torch.empty(shape.history_length + 1, shape.width))
        block = partial(Block, shape.width, shape.heads, shape.dropout, causal=False, expansion=4)
        self.blocks = nn.ModuleList(block() for _ in range(shape.layers))
        self.norm = nn.LayerNorm(shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.released_parameter = f"blocks.{shape.layers - 1}.attention.output.weight"
        self.apply(initialise)
        nn.init.normal_(self.positions, std=0.02)
        nn.init.normal_(self.mask, std=0.02)

    def last(self, items: Tensor, table: Tensor) -> Tensor:
        """The state (B, D) of a mask put after histories (B, L)."""
        items = items[:, -self.shape.history_length :]
        mask = self.mask.expand(len(items), 1, -1)
        states = self._embed(torch.cat([functional.embedding(items, table), mask], 1))
        for block in self.blocks[:-1]:
            states = block(states)
        return self.norm(self.blocks[-1](states, last_only=True))[:, -1]

    def predictions(self, windows: Tensor, table: Tensor, *, seed: int) -> Predictions:
        """Predicts the masked items of windows (B, L + 1) from the other items: (M, D), (M,)."""
        random = torch.Generator().manual_seed(seed)
        masked = (torch.rand(windows.shape, generator=random) < MASKED_SHARE).to(windows.device)
        masked[:, -1] = True
        states = self._embed(torch.where(masked[:, :, None], self.mask, functional.embedding(windows, table)))
        for block in self.blocks:
            states = block(states)
        return Predictions(self.norm(states)[masked], windows[masked])

    def _embed(self, vectors: Tensor) -> Tensor:
        return self.dropout(scaled(vectors, math.sqrt(self.shape.width)) + self.positions[-vectors.shape[1] :])
