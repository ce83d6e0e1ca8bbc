"""Graphs of items, fixed by the training histories: items that follow each other, and items that share histories.

Both are symmetric and scaled by the degrees on both sides, D^-1/2 A D^-1/2, so that a product with one equals its
transpose. Axes: V items, M entries.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from dealrec_core.samples.nearest import nearest


class Graph(nn.Module):
    """A symmetric sparse matrix (V, V) as buffers; items beyond it have no neighbours."""

    edges: Tensor
    weights: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", torch.empty(2, 0, dtype=torch.int64))
        self.register_buffer("weights", torch.empty(0))
        self.register_load_state_dict_pre_hook(_make_room)

    def put(self, matrix: sparse.csr_matrix) -> None:
        """Stores the entries of a matrix, sorted by row and column."""
        entries = matrix.tocsr().sorted_indices().tocoo()
        places = np.stack([entries.row, entries.col]).astype(np.int64)
        self.edges = torch.from_numpy(places).to(self.edges.device)
        self.weights = torch.from_numpy(entries.data).to(self.weights)


def transitions(windows: Sequence[np.ndarray], *, item_count: int) -> sparse.csr_matrix:
    """Number of times that two items are neighbours in windows (W, L + 1), in either order, and 1 on the diagonal; scaled."""
    before, after = (np.concatenate([part[:, side].ravel() for part in windows]) for side in (np.s_[:-1], np.s_[1:]))
    counts = sparse.csr_matrix((np.ones(len(before)), (before, after)), shape=(item_count, item_count))
    counts.sum_duplicates()
    both = (counts + counts.T).tolil()
    both.setdiag(1.0)
    return _scaled(both.tocsr())


def companions(windows: Sequence[np.ndarray], *, item_count: int, neighbours: int = 4) -> sparse.csr_matrix:
    """Cosine of the windows that hold two items, for pairs where one is among the other's nearest `neighbours`; scaled."""
    widths = np.concatenate([np.full(len(part), part.shape[1]) for part in windows])
    rows = np.repeat(np.arange(len(widths)), widths)
    items = np.concatenate([part.ravel() for part in windows])
    held = sparse.csr_matrix((np.ones(len(rows)), (rows, items)), shape=(len(widths), item_count))
    held.data[:] = 1.0  # an item that a window holds twice counts once
    sizes = np.maximum(np.asarray(held.sum(0)).ravel(), 1.0)
    norm = sparse.diags(sizes**-0.5)
    cosine = (norm @ (held.T @ held) @ norm).tocsr()
    cosine.setdiag(0)
    cosine.eliminate_zeros()
    closest = nearest(cosine, neighbours)
    return _scaled(closest.maximum(closest.T).tocsr())


def product(edges: Tensor, weights: Tensor, vectors: Tensor) -> Tensor:
    """A x (V, D) for a symmetric A with entries `weights` (M,) at `edges` (2, M), sorted by row; differentiable by x."""
    return _Product.apply(edges, weights, vectors)


class _Product(torch.autograd.Function):
    """torch has no forward mode for products with sparse matrices. Here every derivative is the product itself."""

    @staticmethod
    def forward(edges: Tensor, weights: Tensor, vectors: Tensor) -> Tensor:
        count = len(vectors)
        matrix = torch.sparse_coo_tensor(edges, weights, (count, count), is_coalesced=True, check_invariants=False)
        return matrix @ vectors

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        context.save_for_backward(*inputs[:2])
        context.save_for_forward(*inputs[:2])

    @staticmethod
    def backward(context: Any, slope: Tensor) -> tuple[None, None, Tensor]:
        edges, weights = context.saved_tensors
        return None, None, product(edges, weights, slope)

    @staticmethod
    def jvp(context: Any, _edges: Any, _weights: Any, along: Tensor) -> Tensor:
        edges, weights = context.saved_tensors
        return product(edges, weights, along)


def _scaled(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    degrees = np.asarray(matrix.sum(1)).ravel()
    norm = sparse.diags(np.where(degrees > 0, np.maximum(degrees, 1e-12) ** -0.5, 0.0))
    return (norm @ matrix @ norm).tocsr()


def _make_room(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Graphs on disk have any number of entries."""
    for name, buffer in module.named_buffers(recurse=False):
        setattr(module, name, torch.empty(state[f"{prefix}{name}"].shape, dtype=buffer.dtype, device=buffer.device))
