import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dealrec_core.language.fine_tuning import with_lora
from dealrec_core.settings.language import LoraConfig


def test_what_the_adapter_adds_is_scaled_by_alpha_over_rank():
    shape = LlamaConfig(vocab_size=16, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2)
    torch.manual_seed(0)
    tuned = with_lora(LlamaForCausalLM(shape), LoraConfig(rank=4, alpha=12, dropout=0.0), seed=0)
    layer = next(module for name, module in tuned.named_modules() if name.endswith("q_proj"))
    low, high = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(high)
    x = torch.randn(3, 16)
    torch.testing.assert_close(layer(x), layer.base_layer(x) + 12 / 4 * x @ low.T @ high.T)
