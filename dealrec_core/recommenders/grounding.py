"""BIGRec's own decoding: generate freely, then rank every item by its distance to what was generated."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor

from dealrec_core.language.language_model import padded
from dealrec_core.recommenders.decoding import filled_left


@torch.no_grad()
def generate(
    model: Any, prompts: Sequence[Sequence[int]], *, beams: int, most_tokens: int, pad: int, end: int
) -> list[list[int]]:
    """The best free continuation of each prompt by beam search, without its end token."""
    ids, places = filled_left(prompts, pad=pad, device=next(model.parameters()).device)
    plain = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    tokens = {"max_new_tokens": most_tokens, "pad_token_id": pad, "eos_token_id": end}
    written = model.generate(input_ids=ids, attention_mask=(places >= 0).long(), num_beams=beams, **plain, **tokens)
    rows: list[list[int]] = written[:, ids.shape[1] :].tolist()
    return [row[: row.index(end)] if end in row else [token for token in row if token != pad] for row in rows]


@torch.no_grad()
def embeddings(model: Any, rows: Sequence[Sequence[int]], *, start: int | None, batch_size: int) -> Tensor:
    """The last token's hidden state of each text by the model without its adapter, float32 (texts, D).

    start: id of the begin-of-text token, None where the tokenizer has none; a text without tokens is that token alone.
    """
    texts = [[*([start] if start is not None else []), *row] or [0] for row in rows]
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    device = next(model.parameters()).device
    states: dict[int, Tensor] = {}
    with model.disable_adapter() if isinstance(model, PeftModel) else nullcontext():
        for begin in range(0, len(order), batch_size):
            places = order[begin : begin + batch_size]
            ids = padded([texts[place] for place in places], value=0).to(device)
            output = model(input_ids=ids, output_hidden_states=True, use_cache=False, logits_to_keep=1)
            last = torch.tensor([len(texts[place]) - 1 for place in places], device=device)
            hidden = output.hidden_states[-1][torch.arange(len(places), device=device), last].float()  # (B, D)
            states.update(zip(places, hidden, strict=True))
    return torch.stack([states[place] for place in range(len(texts))])


def distances(texts: Tensor, titles: Tensor) -> np.ndarray:
    """L2 distance of each text (B, D) to each title (V, D), min-maxed per row to [0, 1], float64 (B, V)."""
    gaps = torch.cdist(texts.double(), titles.double(), compute_mode="donot_use_mm_for_euclid_dist").cpu().numpy()
    low, high = gaps.min(1, keepdims=True), gaps.max(1, keepdims=True)
    return np.asarray((gaps - low) / np.where(high > low, high - low, 1.0))


def weighted(gaps: np.ndarray, weights: np.ndarray, gamma: float) -> np.ndarray:
    """D (1 + P)^-gamma (Bao et al. 2023): distances (B, V), shrunk for items of large weight.

    weights: popularity (V,), or scores of collaborative filtering (B, V); min-maxed over the items to P in [0, 1].
    """
    low, high = weights.min(-1, keepdims=True), weights.max(-1, keepdims=True)
    share = (weights - low) / np.where(high > low, high - low, 1.0)
    return np.asarray(gaps * (1.0 + share) ** -gamma)
