"""Pooled hidden states: what a language model says a sample is about.

Mean of the last layer's states weighted by place, later tokens more (Muennighoff 2022, as in RDS+, Ivison et al. 2025).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase, T5ForConditionalGeneration

from dealrec_core.language.answer_loss import length_batches
from dealrec_core.language.language_model import padded
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import tiger
from dealrec_core.recommenders.semantic_ids import SemanticIds
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.language import PromptConfig
from dealrec_core.settings.recommenders import TigerConfig


@torch.no_grad()
def of_examples(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    prompt: PromptConfig,
    batch_tokens: int,
    device: torch.device,
) -> np.ndarray:
    """Of prompt and answer together, float32 (N, D)."""
    prompter = Prompter(tokenizer, prompt)
    lengths = np.array([prompter.length(example) for example in examples], dtype=np.int64)
    bare: Any = model.to(device).eval()  # type: ignore[arg-type]
    found: np.ndarray | None = None
    for rows in length_batches(lengths, batch_tokens):
        texts = [[*given, *answer] for given, answer in (prompter.row(examples[row]) for row in rows)]
        ids = padded(texts, value=-1).to(device)
        states = bare.base_model(input_ids=ids.clamp(min=0), use_cache=False).last_hidden_state  # (B, L, D)
        pooled = weighted_mean(states, (ids >= 0)).cpu().numpy()
        found = np.empty((len(examples), pooled.shape[1]), dtype=np.float32) if found is None else found
        found[rows] = pooled
    return np.empty((0, 0), dtype=np.float32) if found is None else found


@torch.no_grad()
def of_histories(
    model: T5ForConditionalGeneration,
    samples: Sequences,
    ids: SemanticIds,
    *,
    network: TigerConfig,
    batch_tokens: int,
    device: torch.device,
) -> np.ndarray:
    """The same of TIGER's encoder, over the codes of the history and of the target, float32 (N, D)."""
    tokens = tiger.item_tokens(ids)
    encoder: Any = model.to(device).eval().get_encoder()  # type: ignore[arg-type]
    found = np.empty((len(samples), network.width), dtype=np.float32)
    for rows in tiger.exact_batches(samples, network, batch_tokens=batch_tokens, ids=ids):
        kept = min(network.history_length, int(samples.lengths[rows[0]]))
        items = samples.items[samples.offsets[rows + 1][:, None] - kept + np.arange(kept)]
        texts = torch.from_numpy(tokens[np.column_stack([items, samples.targets[rows]])].reshape(len(rows), -1))
        states = encoder(input_ids=texts.to(device)).last_hidden_state
        found[rows] = weighted_mean(states, torch.ones(states.shape[:2], dtype=torch.bool)).cpu().numpy()
    return found


def weighted_mean(states: Tensor, real: Tensor) -> Tensor:
    """Σ i h_i / Σ i over the real tokens i = 1..L of each row; states (B, L, D), real (B, L), filled up on the right."""
    weights = real.float().cumsum(1) * real
    return (states.float() * weights[:, :, None].to(states.device)).sum(1) / weights.sum(1, keepdim=True)
