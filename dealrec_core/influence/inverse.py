"""Solves (G + damping I) q = v for a symmetric positive semidefinite G that is only known by its products."""

import math
from dataclasses import dataclass

import torch

from dealrec_core.errors import NotConverged, NotFinite
from dealrec_core.influence.gradients import Operator, Vector, axpy, dot, scaled, zeros


@dataclass(frozen=True)
class Solution:
    """q with its evidence."""

    vector: Vector
    residual: float
    """Norm of (G + damping I) q - v over that of v."""
    products: int


def conjugate_gradients(product: Operator, v: Vector, *, damping: float, tolerance: float, most_steps: int) -> Solution:
    """Hestenes and Stiefel 1952. G must be symmetric positive semidefinite.

    Raises:
        NotConverged: the residual is above `tolerance` after `most_steps`.
        NotFinite: a product is not finite.
    """
    size = math.sqrt(dot(v, v))
    q, residual, direction = zeros(v), v, v
    squared = dot(residual, residual)
    for step in range(most_steps + 1):
        if math.sqrt(squared) <= tolerance * size:
            return Solution(q, math.sqrt(squared) / size if size else 0.0, step)
        if step == most_steps:
            break
        curved = axpy(damping, direction, product(direction))
        length = squared / dot(direction, curved)
        if not math.isfinite(length):
            raise NotFinite(f"conjugate gradients met a product that is not finite at step {step}; retrain the surrogate")
        q = axpy(length, direction, q)
        residual = axpy(-length, curved, residual)
        before, squared = squared, dot(residual, residual)
        direction = axpy(squared / before, direction, residual)
    raise NotConverged(
        f"residual {math.sqrt(squared) / size:.1e} after {most_steps} steps, wanted {tolerance:.1e}; "
        "raise influence.damping or influence.most_steps"
    )


def top_eigenvalue(product: Operator, like: Vector, *, steps: int, seed: int) -> float:
    """The largest eigenvalue of G from below, by power iteration from a random start."""
    random = torch.Generator().manual_seed(seed)
    vector = {name: torch.randn(part.shape, generator=random).to(part) for name, part in like.items()}
    value = 0.0
    for _ in range(steps):
        vector = scaled(1 / math.sqrt(dot(vector, vector)), vector)
        after = product(vector)
        value = dot(vector, after)
        vector = after
    return value
