"""Pooled hidden states: the direction in which a model represents a sample."""

from torch import Tensor


def weighted_mean(states: Tensor, real: Tensor) -> Tensor:
    """Σ i h_i / Σ i over the real tokens i = 1..L of each row; states (B, L, D), real (B, L), filled up on the right.

    Later tokens weigh more (Muennighoff 2022, as in RDS+, Ivison et al. 2025).
    """
    weights = real.float().cumsum(1) * real
    return (states.float() * weights[:, :, None].to(states.device)).sum(1) / weights.sum(1, keepdim=True)
