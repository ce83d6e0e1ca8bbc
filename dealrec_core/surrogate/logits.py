"""Logits of a surrogate over the whole catalogue, in blocks of samples: memory does not grow with the samples."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dealrec_core.samples.sequences import Sequences
from dealrec_core.surrogate.base import outputs


class Block(NamedTuple):
    """B samples of one history length, with their logits."""

    rows: np.ndarray
    """Places (B,) of the samples."""
    states: Tensor
    """(B, D), on the model's device."""
    logits: Tensor
    """(B, V)."""
    targets: Tensor
    """(B, 1), on the model's device."""


@torch.no_grad()
def blocks(model: Any, samples: Sequences, *, batch_tokens: int = 8192, cells: int = 2**22) -> Iterator[Block]:
    """Yields every sample once, shorter histories first, with at most `cells` logits in a block. The model stays in eval mode."""
    table = model.eval().item_table()
    size = max(1, cells // len(table))
    for rows, histories, targets in samples.batches(batch_tokens):
        for place in range(0, len(rows), size):
            part = slice(place, place + size)
            states = model.last(histories[part].to(table.device), table)
            logits = states @ outputs(table, states).T
            yield Block(rows[part], states, logits, targets[part, None].to(table.device))
