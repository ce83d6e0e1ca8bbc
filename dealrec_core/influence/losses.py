"""The loss of a sample as a function of the network's outputs, with first and second derivatives written out.

A loss sees the state h (B, D), the first D columns of the table E (V, D or wider) and the targets y (B,). Derivatives by
hand never build a graph over (B, V) logits, and they run in blocks of rows, so memory does not grow with the batch. Dotted
names are derivatives along one direction of the parameters; None stands for a zero.

softmax   −z_y + log Σ_v exp z_v                              z = h Eᵀ over the whole catalogue
sampled   softmax with the sum over y and K fixed negatives, each times c_k: an unbiased sum
bce       softplus(−z_y) + Σ_k c_k softplus(z_k) / (V − 1)    K fixed negatives; one that equals y counts 0

c_k is the number of items that a negative stands for, (V − 1)/K where all have the same chance to be drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dealrec_core.errors import SettingsError
from dealrec_core.influence.drawn import drawn_by
from dealrec_core.settings.influence import LossName
from dealrec_core.surrogate.base import outputs

_CELLS = 2**20  # logits in one block of rows: 4 MB


@dataclass(frozen=True)
class Loss:
    """One loss with its candidates fixed, so that risk, curvature and scores all see the same function."""

    name: LossName
    negatives: Tensor | None
    """Items (K,) that stand for the catalogue, each once and in order; None for all of it."""
    item_count: int
    counts: Tensor | None = None
    """Number of items that each negative stands for, (K,): one over its chance to be drawn. None: equal numbers."""

    def __post_init__(self) -> None:
        if self.negatives is not None and (self.negatives.diff() <= 0).any():
            raise SettingsError("the negatives of a loss must be item numbers in rising order, each once; sort them")

    def values(self, state: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        """Loss of each sample, (B,); differentiable. All methods below compute its derivatives."""
        logits = self._logits(state, table, targets)
        if self.name == "bce":
            return functional.softplus(-logits[:, 0]) + functional.softplus(logits[:, 1:]) @ self._shares(logits)
        of_target = logits.gather(1, targets[:, None]) if self.negatives is None else logits[:, :1]
        return logits.logsumexp(1) - of_target[:, 0]

    @torch.no_grad()
    def gradient(
        self,
        state: Tensor,
        table: Tensor,
        targets: Tensor,
        *,
        into: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Derivative (B, D) of the summed loss by the state.

        The derivative by the table, which costs as much, is added to `into` (V, D) where given. `weights` (B,) multiply the
        samples' losses.
        """
        sums = _Sums(state, into)
        for rows in self._blocks(state):
            slope = self._slope(self._logits(state[rows], table, targets[rows]), targets[rows])
            slope = slope if weights is None else slope * weights[rows, None]
            self._pull_back(sums, slope, rows, state, table, targets)
        return sums.state

    @torch.no_grad()
    def ranks(self, state: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        """Number of items (B,) ahead of each target, an item of equal score counting half.

        Each fixed negative counts for the items that it stands for: an unbiased number.
        """
        places = state.new_zeros(len(state))
        for rows in self._blocks(state):
            logits = self._logits(state[rows], table, targets[rows])
            if self.negatives is None:
                of_target, counts = logits.gather(1, targets[rows, None]), logits.new_ones(logits.shape[1])
            else:
                counts = torch.cat([logits.new_ones(1), self._counts(logits)])
                of_target, logits = logits[:, :1], logits if self.name == "bce" else logits - counts.log()
            ahead = (logits > of_target).to(logits) + (logits == of_target).to(logits) / 2
            places[rows] = ahead @ counts - 0.5  # the target itself counts half
        return places

    @property
    def width(self) -> int:
        """Number of logits of a sample: V, or 1 + K."""
        return self.item_count if self.negatives is None else 1 + len(self.negatives)

    @torch.no_grad()
    def tangents(
        self, state: Tensor, table: Tensor, targets: Tensor, *, state_dot: Tensor | None, table_dot: Tensor | None
    ) -> Tensor:
        """Derivative of each sample's loss along the direction, (B,)."""
        slopes = state.new_zeros(len(state))
        states, outs = _moving(state, outputs(table, state), state_dot=state_dot, table_dot=table_dot)
        if states is None or outs is None:
            return slopes
        for rows in self._blocks(state):
            slope = self._slope(self._logits(state[rows], table, targets[rows]), targets[rows])
            pulled = _Sums(states[rows])
            self._pull_back(pulled, slope, slice(None), states[rows], outs, targets[rows])
            slopes[rows] = (pulled.state * states[rows]).sum(1)
        return slopes

    @torch.no_grad()
    def gauss_newton(
        self,
        state: Tensor,
        table: Tensor,
        targets: Tensor,
        *,
        state_dot: Tensor | None,
        table_dot: Tensor | None,
        into: Tensor | None = None,
    ) -> Tensor:
        """Jᵀ B J along the direction, up to the outputs; B, the loss's Hessian by the logits, is never negative.

        The part (B, D) of the state; that of the table is added to `into` (V, D), where given.
        """
        sums = _Sums(state, into)
        states, outs = _moving(state, outputs(table, state), state_dot=state_dot, table_dot=table_dot)
        if states is None or outs is None:
            return sums.state
        for rows in self._blocks(state):
            w = self._weights(self._logits(state[rows], table, targets[rows]))
            logits_dot = self._products(states[rows], outs, targets[rows])
            if self.name != "bce":
                logits_dot -= torch.linalg.vecdot(w, logits_dot)[:, None]
            self._pull_back(sums, logits_dot.mul_(w), rows, state, table, targets)
        return sums.state

    @torch.no_grad()
    def drawn(self, state: Tensor, table: Tensor, targets: Tensor, *, at: Tensor) -> tuple[Tensor, Tensor]:
        """Items (B, K) drawn by the curvature's weights at the places `at` (B, K) of their running sum, and the weight of each
        item of a sample, (B,)."""
        items, counts = [], []
        for rows in self._blocks(state):
            weights = self._weights(self._logits(state[rows], table, targets[rows]))
            columns = drawn_by(weights, at[rows])
            if self.negatives is not None:  # the target is column 0
                columns = torch.where(columns == 0, targets[rows, None], self.negatives[(columns - 1).clamp(min=0)])
            items.append(columns)
            counts.append(weights.sum(1) / at.shape[1])
        return torch.cat(items), torch.cat(counts)

    def _logits(self, state: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        """(B, V), or (B, 1 + K) with the target first."""
        logits = self._products(state, table, targets)
        if self.negatives is None:
            return logits
        if self.name != "bce":
            logits[:, 1:] += self._counts(logits).log()
        places = torch.searchsorted(self.negatives, targets).clamp_(max=len(self.negatives) - 1)
        rows = (self.negatives[places] == targets).nonzero()[:, 0]
        logits[rows, 1 + places[rows]] = -torch.inf
        return logits

    def _counts(self, like: Tensor) -> Tensor:
        """Number of items that each negative stands for, (K,)."""
        assert self.negatives is not None
        if self.counts is not None:
            return self.counts.to(like)
        return torch.full_like(self.negatives, (self.item_count - 1) / len(self.negatives), dtype=like.dtype)

    def _shares(self, like: Tensor) -> Tensor:
        """Share of the other items that each negative stands for, (K,)."""
        return self._counts(like) / (self.item_count - 1)

    def _products(self, state: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        table = outputs(table, state)
        if self.negatives is None:
            return state @ table.T
        of_target = (state * table[targets]).sum(1, keepdim=True)
        return torch.cat([of_target, state @ table.index_select(0, self.negatives).T], 1)

    def _slope(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Derivative by the logits."""
        if self.name == "bce":
            return torch.cat([-torch.sigmoid(-logits[:, :1]), torch.sigmoid(logits[:, 1:]) * self._shares(logits)], 1)
        slope = logits.softmax(1)
        column = targets[:, None] if self.negatives is None else torch.zeros_like(targets)[:, None]
        return slope.scatter_add_(1, column, torch.full_like(column, -1, dtype=slope.dtype))

    def _weights(self, logits: Tensor) -> Tensor:
        """w of the Hessian by the logits: B = diag(w) for bce, diag(w) − w wᵀ otherwise."""
        if self.name != "bce":
            return logits.softmax(1)
        weight = torch.cat([torch.ones_like(logits[0, :1]), self._shares(logits)])
        return weight * torch.sigmoid(logits) * torch.sigmoid(-logits)

    def _pull_back(
        self, sums: "_Sums", slope: Tensor, rows: slice, state: Tensor, table: Tensor, targets: Tensor
    ) -> None:
        """Adds the derivative by the outputs, given the derivative by the logits of `rows`."""
        states, item, table = state[rows], targets[rows], outputs(table, state)
        if self.negatives is None:
            sums.state[rows] += slope @ table
            if sums.table is not None:
                sums.table.addmm_(slope.T, states)
            return
        sums.state[rows] += slope[:, :1] * table[item] + slope[:, 1:] @ table.index_select(0, self.negatives)
        if sums.table is not None:
            sums.table.index_add_(0, item, slope[:, :1] * states)
            sums.table.index_add_(0, self.negatives, slope[:, 1:].T @ states)

    def _blocks(self, state: Tensor) -> Iterator[slice]:
        step = max(1, _CELLS // self.width)
        return (slice(at, at + step) for at in range(0, len(state), step))


def _moving(
    state: Tensor, table: Tensor, *, state_dot: Tensor | None, table_dot: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """Two factors whose product is ḣ Eᵀ + h Ėᵀ, the derivative of the logits: one product of twice the width costs less."""
    if table_dot is None:
        return state_dot, table
    table_dot = outputs(table_dot, state)
    if state_dot is None:
        return state, table_dot
    return torch.cat([state_dot, state], 1), torch.cat([table, table_dot], 1)


class _Sums:
    """Sums of derivatives: by the state (B, D) and, where it is given, by the table (V, D)."""

    def __init__(self, state: Tensor, table: Tensor | None = None) -> None:
        self.state = torch.zeros_like(state)
        self.table = None if table is None else outputs(table, state)


def build(
    name: LossName,
    *,
    item_count: int,
    negatives: int,
    seed: int,
    shares: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> Loss:
    """The loss with its negatives drawn once: distinct items, the same for every sample.

    An item's chance follows its share (V,) of the softmax, where given, and is one for items of a large share. Without
    shares all items have the same chance. `sampled` with as many negatives as there are items is `softmax`.

    Raises:
        SettingsError: the name is unknown or there is no item to be a negative.
    """
    if item_count < 2:
        raise SettingsError(f"{item_count} item in the catalogue; a loss needs at least 2")
    if name == "softmax" or (name == "sampled" and negatives >= item_count):
        return Loss("softmax", None, item_count)
    random = np.random.default_rng(seed)
    if shares is None or negatives >= item_count:
        drawn = random.choice(item_count, min(negatives, item_count), replace=False)
        return Loss(name, torch.from_numpy(np.sort(drawn)).to(device), item_count)
    chances = inclusion(shares, negatives)
    drawn = systematic(chances, random=random)
    counts = torch.from_numpy(1 / chances[drawn])
    return Loss(name, torch.from_numpy(drawn).to(device), item_count, counts.to(device))


def inclusion(shares: np.ndarray, count: int) -> np.ndarray:
    """Chances (V,) that sum to `count`, in proportion to the shares and at most 1.

    A tenth of the chances is even, so that no item stands for many just because its share was misjudged.
    """
    mixed = 0.9 * shares / shares.sum() + 0.1 / len(shares)
    chances = np.zeros(len(shares))
    certain = np.zeros(len(shares), dtype=bool)
    while True:
        chances[~certain] = (count - certain.sum()) * mixed[~certain] / mixed[~certain].sum()
        over = ~certain & (chances >= 1)
        if not over.any():
            return chances
        certain |= over
        chances[over] = 1.0


def systematic(chances: np.ndarray, *, random: np.random.Generator) -> np.ndarray:
    """Draws distinct items, sorted, each with its own chance; their number is the sum of the chances (Madow 1949).

    One random start and equal steps through the items, in order of their chances: those of one size are drawn evenly.
    """
    order = np.argsort(-chances, kind="stable")
    ends = np.cumsum(chances[order])
    ticks = np.arange(round(ends[-1])) + random.random()
    places = np.searchsorted(ends, np.minimum(ticks, ends[-1] * (1 - 1e-12)), side="right")
    return np.sort(order[places])
