"""The loss of the answer after a prompt, and batches of rows of about one length."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dealrec_core.language.language_model import padded
from dealrec_core.language.prompts import Example, Prompter, Row

Losses = Iterator[tuple[np.ndarray, Tensor]]
"""Batches as (rows of samples, loss of each row (B,)); a batch is computed only when it is asked for."""


def answer_losses(model: Any, rows: Sequence[Row], *, device: torch.device, prompts_too: bool = False) -> Tensor:
    """Mean cross-entropy of each row's answer tokens (or of all its tokens but the first), (B,).

    Rows are padded on the right and no mask is needed: with causal attention what follows changes nothing. The output
    layer is computed only where a token is predicted that counts.
    """
    ids = padded([[*prompt, *answer] for prompt, answer in rows], value=-1).to(device)  # (B, L)
    starts = torch.tensor([1 if prompts_too else len(prompt) for prompt, _ in rows], device=device)[:, None]
    places = torch.arange(1, ids.shape[1], device=device)
    row, place = ((ids[:, 1:] >= 0) & (places >= starts)).nonzero(as_tuple=True)  # (T,) each, T counted tokens
    with _only_at(model.get_output_embeddings(), row, place):
        logits = model(input_ids=ids.clamp(min=0), use_cache=False).logits[0]  # (T, vocabulary)
    losses = functional.cross_entropy(logits.float(), ids[row, place + 1], reduction="none")
    total = losses.new_zeros(len(rows)).index_add(0, row, losses)
    return total / torch.bincount(row, minlength=len(rows))


def example_losses(
    model: Any, prompter: Prompter, examples: Sequence[Example], *, batch_tokens: int, prompts_too: bool = False
) -> Losses:
    """Yields (rows, mean answer loss of each row (B,)), shortest examples first, on the model's device.

    batch_tokens: most tokens of a batch, padding included; an example that is longer is a batch alone.
    """
    device = next(model.parameters()).device
    lengths = np.array([prompter.length(example) for example in examples], dtype=np.int64)
    for rows in length_batches(lengths, batch_tokens):
        texts = [prompter.row(examples[row]) for row in rows]
        yield rows, answer_losses(model, texts, device=device, prompts_too=prompts_too)


def row_losses(model: Any, rows: Sequence[Row], *, batch_tokens: int, prompts_too: bool = False) -> Losses:
    """Yields (rows, mean answer loss of each row (B,)) of tokens, in batches as `example_losses` does."""
    device = next(model.parameters()).device
    lengths = np.array([len(prompt) + len(answer) for prompt, answer in rows], dtype=np.int64)
    for batch in length_batches(lengths, batch_tokens):
        yield batch, answer_losses(model, [rows[row] for row in batch], device=device, prompts_too=prompts_too)


@contextmanager
def _only_at(layer: nn.Module, row: Tensor, place: Tensor) -> Iterator[None]:
    """Lets a layer see (1, T, D) instead of (B, L, D): the hidden states at T places."""
    hook = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0][row, place][None],))
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def validation_loss(model: Any, rows: Sequence[Row], *, device: torch.device) -> float:
    """The mean over rows of the answer loss, dropout off."""
    model.eval()
    batches = ([rows[row] for row in batch] for batch in by_length(rows, 32))
    return sum(float(answer_losses(model, batch, device=device).sum()) for batch in batches) / len(rows)


def by_length(rows: Sequence[Row], size: int) -> list[np.ndarray]:
    """Batches of at most `size` row numbers, rows of about one length together."""
    order = np.argsort([len(prompt) + len(answer) for prompt, answer in rows], kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def length_batches(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Row numbers, shortest first, in batches of one row, or of rows times the longest <= `batch_tokens`."""
    order = np.argsort(lengths, kind="stable")
    start = 0
    while start < len(order):
        most = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        ahead = lengths[order[start : start + most]]
        stop = start + max(1, int(np.searchsorted(ahead * np.arange(1, len(ahead) + 1), batch_tokens, side="right")))
        yield order[start:stop]
        start = stop
