"""The loss's curvature from a few outputs of each sample: a cheap Gauss-Newton product that computes no logits.

The curvature by the logits is diag(w) − w wᵀ for softmax, w its probabilities. With K outputs drawn by them, each counting
1/K instead of w, the curvature is that of a softmax over K outputs: positive semidefinite, and a product with it costs K
rows of the table and no (B, V) logits. bce has diag(w), where w does not sum to 1, and nothing to subtract. Draws are
systematic (Madow 1949), at places that the order of the samples decides, without a seed.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dealrec_core.surrogate.base import outputs

_CELLS = 2**20  # numbers of the drawn outputs' vectors in one block of rows: 4 MB
_GOLDEN = 0.6180339887498949  # fractional parts of its multiples lie evenly in [0, 1)


@dataclass(frozen=True)
class Drawn:
    """Drawn outputs of N samples."""

    items: Tensor
    """(N, K), with repetitions."""
    weights: Tensor
    """Weight of each of a sample's outputs, (N,)."""
    centred: bool
    """True for the curvature diag(w) − w wᵀ, False for diag(w)."""

    def take(self, rows: np.ndarray) -> "Drawn":
        """Drawn outputs of the samples `rows`."""
        places = torch.from_numpy(rows).to(self.items.device)
        return Drawn(self.items[places], self.weights[places], self.centred)

    @torch.no_grad()
    def gauss_newton(
        self,
        rows: np.ndarray,
        state: Tensor,
        table: Tensor,
        *,
        state_dot: Tensor | None,
        table_dot: Tensor | None,
        into: Tensor | None = None,
    ) -> Tensor:
        """Gauss-Newton product of samples `rows` with respect to the state; same contract as `Loss.gauss_newton`."""
        of_rows = self.take(rows)
        table, into = outputs(table, state), None if into is None else outputs(into, state)
        table_dot = None if table_dot is None else outputs(table_dot, state)
        by_state = torch.zeros_like(state)
        step = max(1, _CELLS // (of_rows.items.shape[1] * state.shape[1]))
        for at in range(0, len(state), step):
            block = slice(at, at + step)
            items, some = of_rows.items[block], state[block]
            vectors = table[items]  # (B, K, D)
            logits_dot = torch.zeros_like(vectors[..., 0])
            if state_dot is not None:
                logits_dot += torch.linalg.vecdot(vectors, state_dot[block, None])
            if table_dot is not None:
                logits_dot += torch.linalg.vecdot(table_dot[items], some[:, None])
            if self.centred:
                logits_dot -= logits_dot.mean(1, keepdim=True)
            curved = logits_dot * of_rows.weights[block, None]
            if into is not None:
                into.index_add_(0, items.flatten(), (curved[..., None] * some[:, None]).flatten(0, 1))
            by_state[block] = (curved[:, None] @ vectors)[:, 0]
        return by_state


def places(rows: np.ndarray, count: int) -> Tensor:
    """Places in (0, 1) at which samples `rows` (B,) draw their outputs: (B, count), evenly spaced from one start per sample."""
    starts = (rows + 0.5) * _GOLDEN % 1
    return torch.from_numpy((np.arange(count) + starts[:, None]) / count)


def drawn_by(weights: Tensor, at: Tensor) -> Tensor:
    """Columns (B, K) of the weights (B, width) at the places `at` (B, K) of their running sum."""
    sums = weights.cumsum(1)
    columns = torch.searchsorted(sums, at.to(sums) * sums[:, -1:])
    return columns.clamp_(max=weights.shape[1] - 1)
