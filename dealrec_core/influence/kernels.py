"""Kernels that can be differentiated forward and twice: torch has no such derivative for fused attention and fused RNNs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def differentiable() -> Iterator[None]:
    """Runs attention by its plain formula, and recurrent layers without cuDNN, until the block ends.

    `influence.score` and `influence.score_module` do this by themselves. Use it around derivatives of your own.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused layer of nn.TransformerEncoder in eval mode
    try:
        with sdpa_kernel(SDPBackend.MATH), torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
