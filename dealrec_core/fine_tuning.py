"""LoRA fine-tuning (Hu et al. 2021) on a coreset; the loss counts the answer's tokens only."""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dealrec_core.errors import DataError, NotFinite
from dealrec_core.language_model import padded
from dealrec_core.recommenders.prompts import Example, PromptConfig, Prompter, Row

log = logging.getLogger(__name__)


class LoraConfig(BaseModel):
    """Which weights learn, and how many."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    rank: int = Field(default=8, ge=1, le=1024, title="LoRA rank")
    alpha: int = Field(default=16, ge=1, title="LoRA alpha")
    dropout: float = Field(default=0.05, ge=0, lt=1, title="LoRA dropout")
    modules: Literal["attention", "all"] = Field(default="attention", title="LoRA modules")
    """attention: query and value projections, as in the paper; all: every linear layer of the blocks."""


class FineTuneConfig(BaseModel):
    """How the language model is tuned."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    lora: LoraConfig = LoraConfig()
    epochs: int = Field(default=10, ge=1, le=1000, title="Most epochs")
    """50 in the paper."""
    patience: int = Field(default=2, ge=1, title="Patience")
    """Epochs without a lower validation loss before tuning stops; the best epoch is kept."""
    learning_rate: float = Field(default=1e-4, gt=0, title="Learning rate")
    batch_size: int = Field(default=16, ge=1, title="Examples in a step")
    validation_examples: int = Field(default=256, ge=1, title="Validation examples")
    """The newest validation samples, on which the best epoch is chosen."""


@dataclass(frozen=True)
class FineTuned:
    """The tuned model and how it came about."""

    model: PeftModel
    losses: list[float]
    """Mean training loss of each epoch."""
    validation_losses: list[float]
    """Before training, then after each epoch."""
    steps: int
    tokens: int


def with_lora(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> PeftModel:
    """The model, wrapped in a fresh adapter: A random by `seed`, B zero, so that nothing changes yet."""
    modules = ["q_proj", "v_proj"] if config.modules == "attention" else "all-linear"
    described = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=modules,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, described)


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    validation: Sequence[Example],
    *,
    prompt: PromptConfig,
    config: FineTuneConfig,
    seed: int,
    device: torch.device,
) -> FineTuned:
    """Tunes a fresh adapter and returns the epoch with the lowest validation loss.

    Raises:
        DataError: no example, or none to validate on.
        NotFinite: the loss is NaN or infinite.
    """
    if not examples or not validation:
        raise DataError(
            f"{len(examples)} examples and {len(validation)} to validate on, wanted one of each; raise coreset.ratio"
        )
    prompter = Prompter(tokenizer, prompt)
    rows = [prompter.row(example) for example in examples]
    held = [prompter.row(example) for example in validation]
    tuned = with_lora(model, config.lora, seed=seed).to(device)
    weights = [weight for weight in tuned.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0)
    steps_an_epoch = math.ceil(len(rows) / config.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=config.epochs * steps_an_epoch)
    losses: list[float] = []
    held_losses = [validation_loss(tuned, held, device=device)]
    best, best_epoch = _adapter(tuned), 0
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for epoch in range(1, config.epochs + 1):
            losses.append(_epoch(tuned, rows, optimiser, schedule, config=config, seed=seed + epoch, device=device))
            held_losses.append(validation_loss(tuned, held, device=device))
            if held_losses[-1] < held_losses[best_epoch]:
                best, best_epoch = _adapter(tuned), epoch
            elif epoch - best_epoch >= config.patience:
                break
    tuned.load_state_dict(best, strict=False)
    tuned.eval()
    log.info(
        "fine-tuning: best epoch %d of %d, validation loss %.3f to %.3f",
        best_epoch,
        len(losses),
        held_losses[0],
        held_losses[best_epoch],
    )
    tokens = len(losses) * sum(len(prompt_ids) + len(answer) for prompt_ids, answer in rows)
    return FineTuned(tuned, losses, held_losses, steps=len(losses) * steps_an_epoch, tokens=tokens)


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


@contextmanager
def _only_at(layer: nn.Module, row: Tensor, place: Tensor) -> Iterator[None]:
    """The layer sees (1, T, D) instead of (B, L, D): the hidden states at T places."""
    hook = layer.register_forward_pre_hook(lambda _, inputs: (inputs[0][row, place][None],))
    try:
        yield
    finally:
        hook.remove()


@torch.no_grad()
def validation_loss(model: Any, rows: Sequence[Row], *, device: torch.device) -> float:
    """Mean over rows of the answer loss, dropout off."""
    model.eval()
    total = sum(
        float(answer_losses(model, [rows[row] for row in batch], device=device).sum()) for batch in by_length(rows, 32)
    )
    return total / len(rows)


def by_length(rows: Sequence[Row], size: int) -> list[np.ndarray]:
    """Batches of row numbers, rows of about one length together."""
    order = np.argsort([len(prompt) + len(answer) for prompt, answer in rows], kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def _epoch(
    model: PeftModel,
    rows: list[Row],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    *,
    config: FineTuneConfig,
    seed: int,
    device: torch.device,
) -> float:
    model.train()
    random = np.random.default_rng(seed)
    shuffled = random.permutation(len(rows))  # so that rows of one length meet other neighbours every epoch
    batches = [shuffled[batch] for batch in by_length([rows[row] for row in shuffled], config.batch_size)]
    total = 0.0
    for place in random.permutation(len(batches)):
        batch = batches[place]
        loss = answer_losses(model, [rows[row] for row in batch], device=device).mean()
        if not torch.isfinite(loss):
            raise NotFinite(
                f"fine-tuning loss is {loss.item()}; lower fine_tune.learning_rate ({config.learning_rate})"
            )
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        optimiser.step()
        schedule.step()
        total += loss.item() * len(batch)
    return total / len(rows)


def _adapter(model: PeftModel) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}
