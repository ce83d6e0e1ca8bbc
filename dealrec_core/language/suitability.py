"""Whether a base model from outside can be tuned: checked in seconds, before anything is computed."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from dealrec_core.errors import SettingsError
from dealrec_core.language import bases, language_model, lora
from dealrec_core.settings.language import NightlyLora


def look(name: str, config: NightlyLora) -> str:
    """Describes the base model without reading a weight of it.

    Raises:
        SettingsError: it is not on this machine, its weights are not in safetensors, its tokenizer has no end token, or
        the layers of `fine_tune.lora.modules` do not exist.
    """
    base = bases.locate(name, weights=False)
    if not base.from_hub and not any(base.folder.glob("*.safetensors")):
        had = ", ".join(sorted(path.name for path in base.folder.iterdir())[:8]) or "nothing"
        raise SettingsError(f"base model '{name}' has no *.safetensors (there is {had}); save it with save_pretrained")
    tokenizer = language_model.load_tokenizer(name)
    with language_model.clear_errors(name), torch.device("meta"):
        shape = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
        model = AutoModelForCausalLM.from_config(shape, trust_remote_code=False)
    chosen = lora.targets(model, config.modules)
    layers = "every linear layer" if isinstance(chosen, str) else " and ".join(chosen)
    template = "a chat template" if getattr(tokenizer, "chat_template", None) else "no chat template"
    return f"{base.name}: {shape.model_type}, {model.num_parameters() / 1e6:,.1f} million weights, {template}; {layers} learn"
