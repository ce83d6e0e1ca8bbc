"""Effort: how strongly the language model would have to change for a sample (paper, section 3.2)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, T5ForConditionalGeneration

from dealrec_core.errors import NotFinite
from dealrec_core.language.answer_loss import answer_losses, length_batches
from dealrec_core.language.fine_tuning import with_lora
from dealrec_core.language.prompts import Example, Prompter
from dealrec_core.recommenders import tiger
from dealrec_core.recommenders.semantic_ids import SemanticIds
from dealrec_core.samples.sequences import Sequences
from dealrec_core.settings.language import EffortConfig, LoraConfig, PromptConfig
from dealrec_core.settings.recommenders import TigerConfig

Losses = Iterator[tuple[np.ndarray, Tensor]]
"""Batches as (rows, loss of each row (B,))."""


def score(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    prompt: PromptConfig,
    config: EffortConfig,
    lora: LoraConfig,
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """Norm of the gradient of each sample's loss with respect to the LoRA weights, float64 (N,).

    A plain `model` gets a fresh adapter by `lora` and `seed`, taken off again at the end; a PeftModel is scored with
    the adapter it has. In a fresh one B = 0, so that the gradient of A vanishes and the norm is that of the B matrices.

    Raises:
        NotFinite: a norm is NaN or infinite; the message names the sample.
    """
    squares = np.zeros(len(examples))
    with _adapted(model, lora, seed=seed, device=device) as tuned:
        losses = _example_losses(tuned, Prompter(tokenizer, prompt), examples, config=config, device=device)
        for rows, found in _squares(tuned, losses, config.parameters):
            squares[rows] = found.sum(1)
    return _norms(squares, [example.sample_id for example in examples])


def score_tiger(
    model: T5ForConditionalGeneration | PeftModel,
    samples: Sequences,
    ids: SemanticIds,
    *,
    network: TigerConfig,
    config: EffortConfig,
    lora: LoraConfig,
    seed: int,
    device: torch.device,
) -> np.ndarray:
    """The same for a TIGER, float64 (N,): the loss is that of the target's codes, which are the whole answer.

    Raises:
        NotFinite: a norm is NaN or infinite; the message gives the row of the sample.
    """
    squares = np.zeros(len(samples))
    with _adapted(model, lora, seed=seed, device=device) as tuned:
        losses = (
            (rows, tiger.losses(tuned, samples, rows, ids, history_length=network.history_length))
            for rows in tiger.exact_batches(samples, network, batch_tokens=config.batch_tokens, ids=ids)
        )
        for rows, found in _squares(tuned, losses, config.parameters):
            squares[rows] = found.sum(1)
    return _norms(squares, list(map(str, range(len(samples)))))


def score_by_layer(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    prompt: PromptConfig,
    config: EffortConfig,
    lora: LoraConfig,
    seed: int,
    device: torch.device,
) -> dict[str, np.ndarray]:
    """The same for each LoRA matrix alone, by the name of its layer; the squares add up to the square of `score`."""
    with _adapted(model, lora, seed=seed, device=device) as tuned:
        names = [name for name, _ in _layers(tuned, config.parameters)]
        squares = np.zeros((len(examples), len(names)))
        losses = _example_losses(tuned, Prompter(tokenizer, prompt), examples, config=config, device=device)
        for rows, found in _squares(tuned, losses, config.parameters):
            squares[rows] = found
    sample_ids = [example.sample_id for example in examples]
    return {name: _norms(squares[:, column], sample_ids) for column, name in enumerate(names)}


def example_gradients(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[Example],
    *,
    prompt: PromptConfig,
    config: EffortConfig,
    lora: LoraConfig,
    seed: int,
    device: torch.device,
) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """Yields (rows, gradient (B, out, in) of each row by each LoRA matrix whose gradient is not zero throughout)."""
    with _adapted(model, lora, seed=seed, device=device) as tuned:
        losses = _example_losses(tuned, Prompter(tokenizer, prompt), examples, config=config, device=device)
        yield from _gradients(tuned, losses, config.parameters)


def tiger_gradients(
    model: T5ForConditionalGeneration | PeftModel,
    samples: Sequences,
    ids: SemanticIds,
    *,
    network: TigerConfig,
    config: EffortConfig,
    lora: LoraConfig,
    seed: int,
    device: torch.device,
) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    """The same for a TIGER."""
    with _adapted(model, lora, seed=seed, device=device) as tuned:
        losses = (
            (rows, tiger.losses(tuned, samples, rows, ids, history_length=network.history_length))
            for rows in tiger.exact_batches(samples, network, batch_tokens=config.batch_tokens, ids=ids)
        )
        yield from _gradients(tuned, losses, config.parameters)


def _gradients(model: PeftModel, losses: Losses, which: str) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
    names = [name for name, _ in _layers(model, which)]
    with _watched(model, which) as meters:
        for rows, batch in losses:
            yield rows, {names[meter.column]: found for meter, found in _per_sample(batch, meters)}


@contextmanager
def _adapted(
    model: PreTrainedModel | PeftModel, lora: LoraConfig, *, seed: int, device: torch.device
) -> Iterator[PeftModel]:
    """The model with an adapter and without dropout; afterwards as it was."""
    tuned: Any = model if isinstance(model, PeftModel) else with_lora(model, lora, seed=seed)
    training = tuned.training
    wanted = [(weight, weight.requires_grad) for weight in tuned.parameters()]
    try:
        yield tuned.to(device).eval()
    finally:
        for weight, learns in wanted:
            weight.requires_grad_(learns)
        tuned.train(training)
        if tuned is not model:
            tuned.unload().requires_grad_(True)


def _example_losses(
    model: PeftModel, prompter: Prompter, examples: Sequence[Example], *, config: EffortConfig, device: torch.device
) -> Losses:
    lengths = np.array([prompter.length(example) for example in examples], dtype=np.int64)
    for rows in length_batches(lengths, config.batch_tokens):
        texts = [prompter.row(examples[row]) for row in rows]
        yield rows, answer_losses(model, texts, device=device, prompts_too=config.tokens == "all")


def _squares(model: PeftModel, losses: Losses, which: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (rows, squared gradient norm of each row and layer (B, M)), with one batched forward and backward each.

    For a linear layer with inputs a_t and output gradients g_t, the gradient of one sample is sum_t g_t a_t': the batch
    needs one product a layer, and neither a backward per sample nor the gradients of the weights. `losses` must compute
    a batch only when it is asked for.
    """
    with _watched(model, which) as meters:
        for rows, batch in losses:
            yield rows, _batch_squares(batch, meters)


@contextmanager
def _watched(model: PeftModel, which: str) -> Iterator[list["_Meter"]]:
    """The LoRA layers under watch; no other weight is differentiable."""
    meters = _meters(model, which)
    model.requires_grad_(False)
    for meter in meters:
        # the graph begins at the first watched layer, not at the embedding
        meter.layer.weight.requires_grad_(not meter.vanishes)
    try:
        yield meters
    finally:
        for meter in meters:
            meter.hook.remove()


def _batch_squares(losses: Tensor, meters: list["_Meter"]) -> np.ndarray:
    found = torch.zeros(len(losses), len(meters), dtype=torch.float64, device=losses.device)
    for meter, summed in _per_sample(losses, meters):
        found[:, meter.column] = summed.double().square().sum((1, 2))
    return found.cpu().numpy()


def _per_sample(losses: Tensor, meters: list["_Meter"]) -> Iterator[tuple["_Meter", Tensor]]:
    """The gradient of each sample's loss by each watched matrix, (B, out, in)."""
    watched = [meter for meter in meters if not meter.vanishes]
    gradients = torch.autograd.grad(losses.sum(), [meter.output for meter in watched])
    for meter, gradient in zip(watched, gradients, strict=True):
        yield meter, torch.bmm(gradient.float().transpose(1, 2), meter.given.float())


def _layers(model: PeftModel, which: str) -> list[tuple[str, nn.Linear]]:
    found = [
        (name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and ".lora_" in name
    ]
    return [(name, layer) for name, layer in found if ".lora_B." in name][-1:] if which == "last" else found


def _norms(squares: np.ndarray, sample_ids: Sequence[str]) -> np.ndarray:
    norms = np.sqrt(squares)
    bad = np.flatnonzero(~np.isfinite(norms))
    if len(bad):
        raise NotFinite(
            f"effort of sample '{sample_ids[bad[0]]}' is {norms[bad[0]]} ({len(bad)} such); check its titles"
        )
    return norms


class _Meter:
    """Keeps what one linear layer was given and gave in the last forward."""

    given: Tensor
    output: Tensor

    def __init__(self, layer: nn.Linear, column: int, *, vanishes: bool) -> None:
        self.layer = layer
        self.column = column
        self.vanishes = vanishes
        """Whether its gradient is zero for every sample, because the matrix behind it is."""
        self.hook = layer.register_forward_hook(self._keep)

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if not self.vanishes:
            self.given, self.output = inputs[0].detach(), output


def _meters(model: PeftModel, which: str) -> list[_Meter]:
    layers = _layers(model, which)
    weight_of = {name: layer.weight for name, layer in layers}
    meters = []
    for column, (name, layer) in enumerate(layers):
        behind = weight_of.get(name.replace(".lora_A.", ".lora_B."))  # of a B, itself
        vanishes = ".lora_A." in name and behind is not None and not bool(behind.any())
        meters.append(_Meter(layer, column, vanishes=vanishes))
    return meters
