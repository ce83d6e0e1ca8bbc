"""Effort: how strongly the language model would have to change for a sample."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dealrec_core.errors import NotFinite
from dealrec_core.fine_tuning import LoraConfig, answer_losses, by_length, tokenised, with_lora
from dealrec_core.recommenders.prompts import Example, PromptConfig, Prompter


class EffortConfig(BaseModel):
    """How effort is computed."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    parameters: Literal["all", "last"] = Field(default="all", title="Parameters")
    """all: every LoRA matrix; last: the last LoRA-B alone, as in the released code (it ranks differently)."""
    batch_size: int = Field(default=64, ge=1, title="Samples in a batch")


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    prompt: PromptConfig,
    config: EffortConfig,
    lora: LoraConfig,
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """Norm of the gradient of each sample's answer loss with respect to the LoRA weights, float64 (N,) (paper, section 3.2).

    One batched forward and backward: for a linear layer with inputs a_t and output gradients g_t, the gradient of one sample
    is sum_t g_t a_t', so the batch needs one product a layer and no backward per sample. Dropout is off. A fresh adapter has
    B = 0, where the gradient of A vanishes and the norm is that of the B matrices. `model` is wrapped with an adapter.

    Raises:
        NotFinite: a norm is NaN or infinite; the message names the sample.
    """
    prompter = Prompter(tokenizer, prompt)
    rows = [tokenised(prompter, example) for example in examples]
    tuned = with_lora(model, lora, seed=seed).to(device).eval()
    meters = [_Meter(layer) for layer in _layers(tuned, config.parameters)]
    squares = np.zeros(len(rows))
    for batch in by_length(rows, config.batch_size):
        losses = answer_losses(tuned, [rows[row] for row in batch], device=device)
        losses.sum().backward()
        squares[batch] = sum(meter.take() for meter in meters).cpu().numpy()
        tuned.zero_grad(set_to_none=True)
    for meter in meters:
        meter.remove()
    norms = np.sqrt(squares)
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise NotFinite(f"effort of sample '{examples[bad[0]].sample_id}' is {norms[bad[0]]} ({len(bad)} such); check its titles")
    return norms


def _layers(model: Any, which: str) -> list[nn.Module]:
    found = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and ".lora_" in name]
    if which == "last":
        found = [(name, layer) for name, layer in found if ".lora_B" in name][-1:]
    return [layer for _, layer in found]


class _Meter:
    """Watches one linear layer and gives the squared gradient norm of each sample of the last backward."""

    def __init__(self, layer: nn.Module) -> None:
        self._squares: Tensor | None = None
        self._hook = layer.register_forward_hook(self._watch)

    def take(self) -> Tensor:
        """The squared norms, float64 (B,)."""
        squares, self._squares = self._squares, None
        assert squares is not None
        return squares

    def remove(self) -> None:
        """Stops watching."""
        self._hook.remove()

    def _watch(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        given = inputs[0].detach()

        def gradient_known(gradient: Tensor) -> None:
            summed = torch.einsum("blo,bli->boi", gradient.float(), given.float())  # (B, out, in)
            self._squares = summed.double().square().sum((1, 2))

        output.register_hook(gradient_known)
