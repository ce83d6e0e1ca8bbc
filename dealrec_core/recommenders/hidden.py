"""Pooled hidden states: the direction in which a model represents a sample.

They are the mean of the last layer's states weighted by place, later tokens more (Muennighoff 2022, as in RDS+, Ivison
et al. 2025).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel, T5ForConditionalGeneration

from dealrec_core.language.answer_loss import length_batches
from dealrec_core.language.language_model import padded
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import tiger
from dealrec_core.recommenders.semantic_ids import SemanticIds
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.recommenders import TigerConfig


@torch.no_grad()
def of_examples(
    model: PreTrainedModel, prompter: Prompter, examples: Sequence[Example], *, batch_tokens: int
) -> np.ndarray:
    """Pooled hidden states of each prompt with its answer, float32 (N, D), on the model's device."""
    lengths = np.array([prompter.length(example) for example in examples], dtype=np.int64)
    bare: Any = model.eval()
    device = next(model.parameters()).device
    pooled = np.empty((0, 0), dtype=np.float32)
    for rows in length_batches(lengths, batch_tokens):
        texts = [[*given, *answer] for given, answer in (prompter.row(examples[row]) for row in rows)]
        ids = padded(texts, value=-1).to(device)
        states = bare.base_model(input_ids=ids.clamp(min=0), use_cache=False).last_hidden_state  # (B, L, D)
        part = weighted_mean(states, (ids >= 0)).cpu().numpy()
        if not len(pooled):
            pooled = np.empty((len(examples), part.shape[1]), dtype=np.float32)
        pooled[rows] = part
    return pooled


@torch.no_grad()
def of_histories(
    model: T5ForConditionalGeneration, samples: Sequences, ids: SemanticIds, *, config: TigerConfig, batch_tokens: int
) -> np.ndarray:
    """Pooled states of TIGER's encoder over the codes of each history and target, float32 (N, D), on the model's device."""
    tokens = tiger.item_tokens(ids)
    encoder: Any = model.eval().get_encoder()
    device = next(model.parameters()).device
    pooled = np.empty((len(samples), config.width), dtype=np.float32)
    for rows in tiger.exact_batches(samples, config, batch_tokens=batch_tokens, ids=ids):
        items, targets = tiger.newest(samples, rows, config.history_length)
        texts = torch.from_numpy(tokens[np.column_stack([items, targets])].reshape(len(rows), -1))
        states = encoder(input_ids=texts.to(device)).last_hidden_state
        pooled[rows] = weighted_mean(states, torch.ones(states.shape[:2], dtype=torch.bool)).cpu().numpy()
    return pooled


def weighted_mean(states: Tensor, real: Tensor) -> Tensor:
    """Σ i h_i / Σ i over the real tokens i = 1..L of each row; states (B, L, D), real (B, L), filled up on the right."""
    weights = real.float().cumsum(1) * real
    return (states.float() * weights[:, :, None].to(states.device)).sum(1) / weights.sum(1, keepdim=True)
