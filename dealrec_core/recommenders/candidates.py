"""Scores given candidates by teacher forcing, where a beam over the whole catalogue is too dear.

All candidates of a user are packed into one row after the prompt, which is read once. A mask shows each candidate the prompt
and its own tokens only, so every token is computed once.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache

from dealrec_core.recommenders.decoding import filled_left

LOGITS = 4096
"""Tokens whose logits are computed at once: 0.8 GB of float32 for a vocabulary of 50,000."""


@torch.no_grad()
def log_probabilities(
    model: Any, prompts: Sequence[Sequence[int]], candidates: Sequence[Sequence[Sequence[int]]], *, pad: int
) -> list[np.ndarray]:
    """Log-probability of every candidate of a user after that user's prompt, float64 (C,) for each user.

    candidates: for each user token ids of titles, each of at least two tokens, the last of which ends the title.
    """
    decoder, device = model.get_decoder(), next(model.parameters()).device
    ids, places = filled_left(prompts, pad=pad, device=device)
    real, cache = places >= 0, DynamicCache()
    read = decoder(
        input_ids=ids,
        attention_mask=real.long(),
        position_ids=places.clamp(min=0),
        past_key_values=cache,
        use_cache=True,
    )
    packed = [_packed(titles) for titles in candidates]
    width = max(len(tokens) for tokens, _, _ in packed)
    tokens, number, place = (_filled([row[part] for row in packed], width, device) for part in range(3))
    own = (number[:, :, None] == number[:, None, :]) & (place[:, :, None] >= place[:, None, :])
    own &= number[:, None, :] >= 0
    seen = torch.cat([real[:, None, :].expand(-1, width, -1), own], 2)[:, None]  # (B, 1, S, P + S)
    mask = torch.zeros(seen.shape, dtype=model.dtype, device=device)
    states = decoder(
        input_ids=tokens.clamp(min=0),
        attention_mask=mask.masked_fill(~seen, torch.finfo(mask.dtype).min),
        position_ids=places[:, -1:] + 1 + place.clamp(min=0),
        past_key_values=cache,
        use_cache=True,
    ).last_hidden_state  # (B, S, D)
    return _summed(model.get_output_embeddings(), read.last_hidden_state[:, -1], states[number >= 0], candidates)


def _packed(titles: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens that something follows, the number of the title of each, and its place in the title, (S,) each."""
    lengths = np.array([len(title) - 1 for title in titles])
    tokens = np.concatenate([np.asarray(title[:-1]) for title in titles])
    place = np.arange(len(tokens)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return tokens, np.repeat(np.arange(len(titles)), lengths), place


def _filled(rows: Sequence[np.ndarray], width: int, device: torch.device) -> Tensor:
    """Rows as one tensor (B, width), filled up on the right with −1."""
    filled = np.full((len(rows), width), -1, dtype=np.int64)
    for line, row in zip(filled, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(filled).to(device)


def _summed(
    head: Any, prompt_states: Tensor, states: Tensor, candidates: Sequence[Sequence[Sequence[int]]]
) -> list[np.ndarray]:
    """Log-probability of each candidate: its first token after the prompt's state (B, D), the others after (T, D)."""
    following = [token for titles in candidates for title in titles for token in title[1:]]
    later = np.concatenate(
        [
            _gathered(head, states[start : start + LOGITS], following[start : start + LOGITS])
            for start in range(0, len(following), LOGITS)
        ]
    )
    users = np.repeat(np.arange(len(candidates)), [len(titles) for titles in candidates])
    first_tokens = [title[0] for titles in candidates for title in titles]
    first = _gathered(head, prompt_states, first_tokens, torch.from_numpy(users).to(states.device))
    lengths = [len(title) - 1 for titles in candidates for title in titles]
    owner = np.repeat(np.arange(len(lengths)), lengths)
    sums = first + np.bincount(owner, weights=later, minlength=len(lengths))
    return np.split(sums, np.cumsum([len(titles) for titles in candidates])[:-1])


def _gathered(head: Any, states: Tensor, tokens: Sequence[int], rows: Tensor | None = None) -> np.ndarray:
    """Log-probability of each token after its state, or after the state of its row, float64."""
    chances = head(states).float().log_softmax(1)
    columns = torch.tensor(tokens, device=states.device)
    rows = torch.arange(len(columns), device=states.device) if rows is None else rows
    picked: np.ndarray = chances[rows, columns].double().cpu().numpy()
    return picked
