"""GRU4Rec: a recurrent network over item histories (Hidasi et al. 2016, "Session-based recommendations with RNNs").

The cells are written out, because forward-mode differentiation does not exist for the fused recurrent kernels.
Deviation from the paper: trained with the softmax over the catalogue, and its item vectors are its output vectors.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dealrec_core.surrogate.base import Predictions, Surrogate
from dealrec_core.surrogate.sasrec import Shape, initialise, scaled


class GRU4Rec(Surrogate):
    """Causal: every position predicts the next item."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.items = nn.Embedding(shape.item_count, shape.width)
        self.cells = nn.ModuleList(Cell(shape.width) for _ in range(shape.layers))
        self.output = nn.Linear(shape.width, shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.released_parameter = "output.weight"
        self.apply(initialise)
        for name, value in self.named_parameters():
            if name.endswith("recurrent.weight"):
                nn.init.orthogonal_(value)

    def hidden(self, items: Tensor, table: Tensor) -> Tensor:
        """The state after every item of histories (B, L): (B, L, D)."""
        items = items[:, -self.shape.history_length :]
        states = scaled(self.dropout(functional.embedding(items, table)), self.shape.width**0.5)
        for cell in self.cells:
            states = self.dropout(cell(states))
        return self.output(states)

    def last(self, items: Tensor, table: Tensor) -> Tensor:
        """The state (B, D) after histories (B, L)."""
        return self.hidden(items, table)[:, -1]

    def predictions(self, windows: Tensor, table: Tensor, *, seed: int) -> Predictions:
        """Every item of windows (B, L + 1) but the first is predicted from those before it: (B·L, D), (B·L,)."""
        return Predictions(self.hidden(windows[:, :-1], table).flatten(0, 1), windows[:, 1:].flatten())


class Cell(nn.Module):
    """One gated recurrent layer (Cho et al. 2014), from a zero state."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(width, 3 * width)
        self.recurrent = nn.Linear(width, 3 * width)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        state = torch.zeros_like(inputs[:, 0])
        states = []
        for projected in self.input(inputs).unbind(1):  # (B, 3 D)
            reset_in, update_in, new_in = projected.chunk(3, 1)
            reset_state, update_state, new_state = self.recurrent(state).chunk(3, 1)
            update = torch.sigmoid(update_in + update_state)
            fresh = torch.tanh(new_in + torch.sigmoid(reset_in + reset_state) * new_state)
            state = fresh + update * (state - fresh)
            states.append(state)
        return torch.stack(states, 1)
