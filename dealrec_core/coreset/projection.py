"""Per-sample LoRA gradients, made small by a random projection.

Each matrix's gradient G (out, in) is projected on its longer side: P G with P (width, out) or G Pᵀ, P's entries normal
with variance 1 / width, so that inner products keep their expectation (Johnson and Lindenstrauss). One P per matrix,
drawn from `seed`, the same for every sample.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

Gradients = Iterator[tuple[np.ndarray, dict[str, Tensor]]]
"""Batches as (rows, gradient (B, out, in) of each row by each matrix)."""


def adam_projected(
    gradients: Callable[[], Gradients], sampled: Callable[[], Gradients], count: int, *, width: int, seed: int
) -> list[np.ndarray]:
    """Projected G / (√V + ε), as `projected` gives it: Adam's step for a sample in LESS (Xia et al., ICML 2024, section 4.1).

    V, Adam's second moment, is the mean square over `sampled`, gradients of some samples; the momentum is left out.
    """
    return projected(gradients(), count, width=width, seed=seed, scale=_scales(sampled()))


def projected(
    gradients: Gradients, count: int, *, width: int, seed: int, scale: dict[str, Tensor] | None = None
) -> list[np.ndarray]:
    """The projected gradients of `count` samples, float32 (N, p) per matrix, matrices in order of name.

    scale: divides each matrix's gradient, (out, in).
    """
    matrix_of: dict[str, np.ndarray] = {}
    drawn: dict[str, Tensor] = {}
    for rows, matrices in gradients:
        for name, matrix in matrices.items():
            values = matrix if scale is None else matrix / scale[name]
            if name not in drawn:
                drawn[name] = _projection(max(values.shape[1:]), width, name=name, seed=seed).to(values)
            small = _shrunk(values, drawn[name]).flatten(1).cpu().numpy()
            if name not in matrix_of:
                matrix_of[name] = np.zeros((count, small.shape[1]), dtype=np.float32)
            matrix_of[name][rows] = small
    return [matrix_of[name] for name in sorted(matrix_of)]


def _shrunk(values: Tensor, projection: Tensor) -> Tensor:
    """(B, out, in) to (B, width, in) or (B, out, width), whichever side is longer."""
    if values.shape[1] >= values.shape[2]:
        return projection @ values
    return values @ projection.T


def _projection(length: int, width: int, *, name: str, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + sum(map(ord, name)))
    if width >= length:
        return torch.eye(length)
    return torch.randn(width, length, generator=generator) / width**0.5


def _scales(gradients: Gradients) -> dict[str, Tensor]:
    """√V + ε of each matrix, (out, in)."""
    total: dict[str, Tensor] = {}
    count = 0
    for rows, matrices in gradients:
        count += len(rows)
        for name, matrix in matrices.items():
            total[name] = total.get(name, 0) + matrix.square().sum(0)
    return {name: (squares / count).sqrt() + 1e-8 for name, squares in total.items()}
