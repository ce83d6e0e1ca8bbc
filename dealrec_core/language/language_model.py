"""Language models are any causal model of Hugging Face, or a small one built on the spot from the catalogue's text."""

import importlib.util
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import prepare_model_for_kbit_training
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from dealrec_core.errors import DataError, SettingsError
from dealrec_core.language import bases
from dealrec_core.language.progress import Progress, silent
from dealrec_core.language.prompts import TAIL, Prompter, head
from dealrec_core.settings.language import LanguageModelConfig, PromptConfig

log = logging.getLogger(__name__)

INERT = {"trust_remote_code": False, "use_safetensors": True}
"""Options of `from_pretrained`: nothing of a model's folder is run, neither its code nor a pickle."""
PAD, BEGIN, END = "<pad>", "<begin>", "<end>"


Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]


def load(location: str, *, device: torch.device, four_bit: bool = False) -> Loaded:
    """A causal model and its tokenizer, by folder or by name; bfloat16 on a GPU, float32 elsewhere.

    four_bit: the weights are held in NF4 with double quantisation (QLoRA, Dettmers et al. 2023), ready for an adapter.

    Raises:
        SettingsError: there is no such folder, the name cannot be had from the hub, or four bits cannot be had here.
    """
    options = _four_bits(device) if four_bit else {}
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    tokenizer, folder = load_tokenizer(location), bases.locate(location).folder
    with clear_errors(location):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=kind, **INERT, **options)
    if four_bit:
        return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False), tokenizer
    placed: Any = model  # transformers' annotation of `to` takes the model for the device
    return placed.to(device), tokenizer


def load_tokenizer(location: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, by folder or by name; it pads with its end token where it has no padding token.

    Raises:
        SettingsError: there is no such folder, the name cannot be had from the hub, or the tokenizer has no end token.
    """
    folder = bases.locate(location, weights=False).folder
    with clear_errors(location):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.eos_token_id is None:
        advice = "name one as eos_token in its tokenizer_config.json: an answer ends with it"
        raise SettingsError(f"the tokenizer of language_model.base_model '{location}' has no end token; {advice}")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def clear_errors(location: str) -> Iterator[None]:
    """Turns what transformers raises about a model into one line that names the setting."""
    try:
        yield
    except (OSError, ValueError) as error:
        line = str(error).splitlines()[0]
        message = f"language_model.base_model '{location}' cannot be loaded: {line}; use 'embedded' or a folder"
        raise SettingsError(message) from error


def _four_bits(device: torch.device) -> dict[str, Any]:
    if device.type != "cuda":
        raise SettingsError(
            f"language_model.four_bit needs a CUDA GPU, this runs on {device.type}; set it to false or run.device to cuda"
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SettingsError("language_model.four_bit needs bitsandbytes; pip install -e '.[qlora]', or set it to false")
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantised, "device_map": {"": device}}


def build(
    folder: Path,
    titles: Sequence[str],
    histories: Sequence[Sequence[str]],
    *,
    config: LanguageModelConfig,
    prompt: PromptConfig,
    seed: int,
    progress: Progress = silent,
) -> list[float]:
    """Writes a tokenizer and a Llama, trained on histories in the prompt's frame, as a Hugging Face folder.

    Returns the loss of every step. histories: titles in time order; those with one title are left out. Every step cuts
    each history at a random place, so that the model learns to answer after any number of titles.

    Raises:
        DataError: no history has two titles.
    """
    usable = [list(history) for history in histories if len(history) > 1]
    if not usable:
        raise DataError("no history of two titles to pretrain the embedded model on; wait for more data")
    tokenizer = _tokenizer(titles, vocabulary=config.vocabulary, prompt=prompt)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=int(config.width * 8 / 3) // 8 * 8,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model = LlamaForCausalLM(shape)
        losses = _pretrain(model, Prompter(tokenizer, prompt), usable, config=config, seed=seed, progress=progress)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    millions = model.num_parameters() / 1e6
    log.info("embedded model: %.1f M parameters, loss %.2f to %.2f", millions, losses[0], losses[-1])
    return losses


def _tokenizer(titles: Sequence[str], *, vocabulary: int, prompt: PromptConfig) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the titles; each end of the prompt's frame is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet, special = pre_tokenizers.ByteLevel.alphabet(), [PAD, BEGIN, END]
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(sorted(titles), trainer)
    frame = [head(prompt)] if prompt.frame == "plain" else [head(prompt), TAIL]  # a line's end is a token already
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in frame])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=BEGIN, eos_token=END)


def _pretrain(
    model: LlamaForCausalLM,
    prompter: Prompter,
    histories: list[list[str]],
    *,
    config: LanguageModelConfig,
    seed: int,
    progress: Progress,
) -> list[float]:
    random = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    model.train()
    losses: list[float] = []
    ahead: list[list[list[int]]] = []
    warm_up = max(1, config.steps // 10)
    for step in range(config.steps):  # the rate rises over the first tenth, then falls to zero along a cosine
        warmth = (step + 1) / warm_up
        if step >= warm_up:
            warmth = 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (config.steps - warm_up)))
        for group in optimiser.param_groups:
            group["lr"] = config.learning_rate * warmth
        if not ahead:
            ahead = _batches(prompter, histories, config=config, random=random)
        ids = padded(ahead.pop(), value=-1)
        labels = torch.where(ids < 0, -100, ids)
        loss = model(input_ids=ids.clamp(min=0), attention_mask=(ids >= 0).long(), labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
        progress(step + 1, config.steps)
    return losses


def _batches(
    prompter: Prompter, histories: list[list[str]], *, config: LanguageModelConfig, random: np.random.Generator
) -> list[list[list[int]]]:
    """Eight batches of rows, rows of about one length together: less padding is computed."""
    rows = []
    for row in random.integers(len(histories), size=8 * config.batch_size):
        history = histories[row]
        stop = int(random.integers(1, len(history)))
        past = history[max(0, stop - config.history_length) : stop]
        rows.append([*prompter.prompt(past), *prompter.answer(history[stop])])
    rows.sort(key=len)
    batches = [rows[start : start + config.batch_size] for start in range(0, len(rows), config.batch_size)]
    return [batches[place] for place in random.permutation(len(batches))]


def padded(rows: Sequence[Sequence[int]], *, value: int) -> Tensor:
    """Rows of ids as one tensor (B, L), filled up on the right: with causal attention, what follows changes nothing."""
    filled = torch.full((len(rows), max(map(len, rows))), value)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = torch.tensor(row)
    return filled


def weighted_mean(states: Tensor, real: Tensor) -> Tensor:
    """The mean state Σ i h_i / Σ i over the real tokens i = 1..L of each row; states (B, L, D), real (B, L), filled up on the right.

    Later tokens weigh more (Muennighoff 2022, as in RDS+, Ivison et al. 2025).
    """
    weights = real.float().cumsum(1) * real
    return (states.float() * weights[:, :, None].to(states.device)).sum(1) / weights.sum(1, keepdim=True)
