"""How many tokens of a model are computed at once, by the size of its layers and the memory that is free."""

from pathlib import Path
from typing import Any

import psutil
import torch

from dealrec_core.settings.language import BatchTokens

LIGHT = 20_000_000
"""Weights below which a model always takes the most tokens: its results do not depend on the machine then."""
LEAST = 128
SHARE = 0.5
"""Share of the free memory that a batch may take."""
PREDICTED = 0.25
"""Share of the tokens whose next token is predicted, at most about: answers are shorter than prompts."""
CGROUP = Path("/sys/fs/cgroup")


def resolve(given: BatchTokens, model: Any, *, most: int) -> int:
    """The tokens of a batch with gradients; "auto" is the largest power of two that fits, `most` at most.

    most: what "auto" is for a light model.
    """
    if given != "auto":
        return given
    weights = list(model.parameters())
    if sum(weight.numel() for weight in weights) < LIGHT:
        return most
    fitting = int(SHARE * free_bytes(weights[0].device) / token_bytes(model))
    return max(LEAST, min(most, 1 << max(0, fitting.bit_length() - 1)))


def token_bytes(model: Any) -> int:
    """Bytes that one token holds between forward and backward, with LoRA on every linear layer; an upper estimate.

    A layer keeps its inputs for the backward, and effort the gradients of all adapted outputs too: about 18 values of the
    model's width and 7 of its inner width. SmolLM2-135M was measured at 2 to 3 MB a token in float32; this gives 2.7.
    """
    shape = model.config
    width = int(shape.hidden_size)
    inner = int(getattr(shape, "intermediate_size", None) or getattr(shape, "d_ff", None) or 4 * width)
    layers = int(shape.num_hidden_layers) * (2 if getattr(shape, "is_encoder_decoder", False) else 1)
    value_bytes = next(model.parameters()).element_size()
    logits = 3 * 4 * PREDICTED * int(shape.vocab_size)  # float32: themselves, their probabilities, their gradients
    return int(layers * (18 * width + 7 * inner) * value_bytes + logits)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had: of a GPU with what torch holds and does not use, else of this machine or container."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return min(int(psutil.virtual_memory().available), _container_bytes())


def _container_bytes() -> int:
    """Memory below the limit of this container (cgroup 2), more than any machine has where there is no limit."""
    try:
        limit, used = ((CGROUP / name).read_text("ascii").strip() for name in ("memory.max", "memory.current"))
        return int(limit) - int(used)
    except (OSError, ValueError):  # no such file, or "max"
        return 1 << 62
