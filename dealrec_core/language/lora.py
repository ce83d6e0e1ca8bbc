"""LoRA adapters (Hu et al. 2021): put on a model, for good or for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from dealrec_core.errors import SettingsError
from dealrec_core.language.batch_tokens import LIGHT
from dealrec_core.settings.language import LoraConfig, Modules

ATTENTION = (["q_proj", "v_proj"], ["q", "v"])
"""Query and value projections as Llama, Qwen and most others call them, and as T5 does; others stand in peft's table."""
FUSED = ["qkv_proj"]
"""Names of these layers in Phi-3."""
WEIGHTS = "adapter_model.safetensors"
SMALL = 1_000_000_000
"""A model with fewer weights is small: every layer learns, and an epoch costs little."""
DROPOUT = 0.05
"""That of the paper. A light model (`batch_tokens.LIGHT`) uses none: it gained nothing by it, and its tuning took 1.4 times as long."""


def with_lora(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> PeftModel:
    """The model, wrapped in a fresh adapter: A random by `seed`, B zero, so that nothing changes yet."""
    encodes = bool(getattr(model.config, "is_encoder_decoder", False))
    dropout = 0.0 if model.num_parameters() < LIGHT else DROPOUT
    task = "SEQ_2_SEQ_LM" if encodes else "CAUSAL_LM"
    described = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or 2 * config.rank,
        lora_dropout=dropout if config.dropout is None else config.dropout,
        target_modules=targets(model, config.modules),
        task_type=task,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, described)


def targets(model: PreTrainedModel, modules: Modules) -> str | list[str]:
    """The layers that an adapter is put on: the names of query and value projections, or every linear layer.

    Raises:
        SettingsError: the model's query and value projections are not known by any name.
    """
    everywhere = model.num_parameters() < SMALL if modules == "auto" else modules == "all"
    if everywhere:
        return "all-linear"
    layers = (name for name, layer in model.named_modules() if isinstance(layer, nn.Linear | Conv1D))
    names = {name.rpartition(".")[2] for name in layers}
    kind = model.config.model_type
    for attention in (*ATTENTION, list(TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING.get(kind, [])), FUSED):
        if attention and names.issuperset(attention):
            return attention
    linear = ", ".join(sorted(names)) or "none"
    message = f"the query and value projections of a '{kind}' are not known; its linear layers are {linear}"
    raise SettingsError(f"{message}; set fine_tune.lora.modules to 'all'")


def with_adapter(model: PreTrainedModel, folder: Path, *, learns: bool) -> PeftModel:
    """The model, wrapped in the adapter of a folder, with that adapter's own LoRA settings.

    Raises:
        SettingsError: there is no adapter of safetensors, or it does not fit the model.
    """
    try:
        if not (folder / WEIGHTS).is_file():  # else peft would read a pickle
            raise OSError(f"it has no {WEIGHTS}")
        return PeftModel.from_pretrained(model, str(folder), is_trainable=learns)
    except (OSError, ValueError, RuntimeError) as error:
        line = str(error).splitlines()[0]
        raise SettingsError(f"adapter {folder} cannot be loaded on this model: {line}; start from the base") from error


@contextmanager
def borrowed(
    model: PreTrainedModel | PeftModel, adapter: LoraConfig | Path, *, seed: int, device: torch.device
) -> Iterator[PeftModel]:
    """The model with an adapter and without dropout; when the block ends it is as it was before.

    A plain model gets a fresh adapter by settings and `seed`, or that of a folder. A PeftModel keeps the one it has.
    """
    training, learns = model.training, [(weight, weight.requires_grad) for weight in model.parameters()]
    tuned: Any = model
    if not isinstance(model, PeftModel):
        tuned = (
            with_adapter(model, adapter, learns=False)
            if isinstance(adapter, Path)
            else with_lora(model, adapter, seed=seed)
        )
    try:
        yield tuned.to(device).eval()
    finally:
        tuned.train(training)
        if tuned is not model:
            tuned.unload()
        for weight, learned in learns:
            weight.requires_grad_(learned)
