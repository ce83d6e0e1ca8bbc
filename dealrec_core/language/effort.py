"""Effort: how strongly a model would have to change for a sample (paper, section 3.2), and the gradients behind it.

The weights that count are those of a LoRA adapter. Nothing here knows which model it is: the caller gives the losses of
the samples batch by batch, computed by the model with its adapter on (`lora.borrowed`).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from dealrec_core.errors import NotFinite
from dealrec_core.language import batch_tokens
from dealrec_core.language.answer_loss import Losses, example_losses, row_losses
from dealrec_core.language.lora import borrowed
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.language.texts import Text, rows_of
from dealrec_core.settings.language import EffortConfig, LoraConfig, PromptConfig

MOST_TOKENS = 4096
"""Most tokens of a batch where the settings leave it to the model and the memory."""
Parameters = Literal["all", "last"]
"""all: every LoRA matrix counts; last: the last B matrix alone."""


def score(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    prompt: PromptConfig = PromptConfig(),
    config: EffortConfig = EffortConfig(),
    lora: LoraConfig = LoraConfig(),
    seed: int = 0,
    device: torch.device | None = None,
) -> np.ndarray:
    """The effort of each example, float64 (N,): the norm of its answer loss's gradient with respect to the LoRA weights.

    A plain `model` gets a fresh adapter by `lora` and `seed`, taken off again at the end; a PeftModel is scored with
    the adapter it has. In a fresh one B = 0, so that the gradient of A vanishes and the norm is that of the B matrices.
    Source: DEALRec (Lin et al., SIGIR 2024), section 3.2.

    Raises:
        NotFinite: a norm is NaN or infinite; the message names the sample.
    """
    with borrowed(model, lora, seed=seed, device=device or _device(model)) as tuned:
        prompter, every = Prompter(tokenizer, prompt), config.tokens == "all"
        most = batch_tokens.resolve(config.batch_tokens, tuned, most=MOST_TOKENS)
        losses = example_losses(tuned, prompter, examples, batch_tokens=most, prompts_too=every)
        return norms(tuned, losses, [example.sample_id for example in examples], parameters=config.parameters)


def score_texts(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Text],
    *,
    config: EffortConfig = EffortConfig(),
    lora: LoraConfig = LoraConfig(),
    seed: int = 0,
    device: torch.device | None = None,
) -> np.ndarray:
    """The effort of texts of one's own, float64 (N,), for any causal model; see `score` for the adapter.

    texts: pairs (prompt, answer), or chats: lists of messages `{"role": …, "content": …}` of which the last is the answer.

    Raises:
        DataError: a chat that the tokenizer cannot render, or an empty answer; the message names the text by its number.
        NotFinite: a norm is NaN or infinite; the message names the text by its number.
    """
    rows, every = rows_of(tokenizer, texts), config.tokens == "all"
    with borrowed(model, lora, seed=seed, device=device or _device(model)) as tuned:
        most = batch_tokens.resolve(config.batch_tokens, tuned, most=MOST_TOKENS)
        losses = row_losses(tuned, rows, batch_tokens=most, prompts_too=every)
        return norms(tuned, losses, [str(number) for number in range(len(rows))], parameters=config.parameters)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def norms(model: PeftModel, losses: Losses, sample_ids: Sequence[str], *, parameters: Parameters = "all") -> np.ndarray:
    """The gradient norm of each sample's loss with respect to the LoRA weights, float64 (N,).

    losses: (rows, losses (B,)) by this very model, rows being places in `sample_ids`; each batch is one forward and
    one backward, since for a linear layer with inputs a_t and output gradients g_t the gradient of one sample is
    sum_t g_t a_t'. Neither a backward for every sample nor the gradients of the weights are needed.

    Raises:
        NotFinite: a norm is NaN or infinite; the message names the sample.
    """
    squares = np.zeros(len(sample_ids))
    with _watched(model, parameters) as meters:
        for rows, batch in losses:
            layers = torch.zeros(len(batch), len(meters), dtype=torch.float64, device=batch.device)
            for meter, gradient in _per_sample(batch, meters):
                layers[:, meter.column] = gradient.double().square().sum((1, 2))
            squares[rows] = layers.cpu().numpy().sum(1)
    efforts = np.sqrt(squares)
    bad_rows = np.flatnonzero(~np.isfinite(efforts))
    if len(bad_rows):
        bad, such = sample_ids[bad_rows[0]], f"{efforts[bad_rows[0]]} ({len(bad_rows)} such)"
        raise NotFinite(f"effort of sample '{bad}' is {such}; check its titles")
    return efforts


def gradients(
    model: PeftModel, losses: Losses, *, parameters: Parameters = "all"
) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """Yields (rows, gradient (B, out, in) of each row by each LoRA matrix whose gradient is not zero throughout).

    losses: as for `norms`.
    """
    with _watched(model, parameters) as meters:
        for rows, batch in losses:
            yield rows, {meter.name: gradient for meter, gradient in _per_sample(batch, meters)}


@contextmanager
def _watched(model: PeftModel, parameters: Parameters) -> Iterator[list["_Meter"]]:
    """Puts the LoRA layers under watch; no other weight is differentiable."""
    linear = ((name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear))
    layers = [(name, layer) for name, layer in linear if ".lora_" in name]
    if parameters == "last":
        layers = [(name, layer) for name, layer in layers if ".lora_B." in name][-1:]
    weight_of = {name: layer.weight for name, layer in layers}
    meters = []
    for column, (name, layer) in enumerate(layers):
        behind = weight_of.get(name.replace(".lora_A.", ".lora_B."))  # for a B matrix this is itself
        vanishes = ".lora_A." in name and behind is not None and not bool(behind.any())
        meters.append(_Meter(name, layer, column, vanishes=vanishes))
    model.requires_grad_(False)
    for meter in meters:
        # the graph begins at the first watched layer, not at the embedding
        meter.layer.weight.requires_grad_(not meter.vanishes)
    try:
        yield meters
    finally:
        for meter in meters:
            meter.hook.remove()


def _per_sample(losses: Tensor, meters: list["_Meter"]) -> Iterator[tuple["_Meter", Tensor]]:
    """The gradient of each sample's loss by each watched matrix, (B, out, in)."""
    watched = [meter for meter in meters if not meter.vanishes]
    outputs = torch.autograd.grad(losses.sum(), [meter.output for meter in watched])
    for meter, gradient in zip(watched, outputs, strict=True):
        yield meter, torch.bmm(gradient.float().transpose(1, 2), meter.given.float())


class _Meter:
    """Keeps the input and the output of one linear layer in the last forward.

    vanishes: whether its gradient is zero for every sample, because the matrix behind it is.
    """

    given: Tensor
    output: Tensor

    def __init__(self, name: str, layer: nn.Linear, column: int, *, vanishes: bool) -> None:
        self.name, self.layer, self.column, self.vanishes = name, layer, column, vanishes
        self.hook = layer.register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not self.vanishes:
            self.given, self.output = inputs[0].detach(), output
