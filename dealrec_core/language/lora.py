"""LoRA adapters (Hu et al. 2021): put on a model, for good or for a while."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel

from dealrec_core.errors import SettingsError
from dealrec_core.settings.language import LoraConfig

SMALL = 1_000_000_000
"""A model with fewer weights is small: every layer learns, and an epoch costs little."""


def with_lora(model: PreTrainedModel, config: LoraConfig, *, seed: int) -> PeftModel:
    """The model, wrapped in a fresh adapter: A random by `seed`, B zero, so that nothing changes yet."""
    encodes = bool(getattr(model.config, "is_encoder_decoder", False))
    attention = ["q", "v"] if encodes else ["q_proj", "v_proj"]  # as T5 and as Llama, Qwen and others call them
    everywhere = model.num_parameters() < SMALL if config.modules == "auto" else config.modules == "all"
    modules: str | list[str] = "all-linear" if everywhere else attention
    task = "SEQ_2_SEQ_LM" if encodes else "CAUSAL_LM"
    described = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha or 2 * config.rank,
        lora_dropout=config.dropout,
        target_modules=modules,
        task_type=task,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(model, described)


def with_adapter(model: PreTrainedModel, folder: Path, *, learns: bool) -> PeftModel:
    """The model, wrapped in the adapter of a folder, with that adapter's own LoRA settings.

    Raises:
        SettingsError: there is no adapter, or it does not fit the model.
    """
    try:
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
