"""The tokens of a batch follow the model and the free memory, and a small model's never change."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dealrec_core.language import batch_tokens, effort, fine_tuning
from tests.dealrec_core.conftest import CPU, SeriesWorld

GIB = 1 << 30
SMOLLM = LlamaConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, tie_word_embeddings=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def smollm() -> LlamaForCausalLM:
    with torch.device("meta"):  # its shapes without its memory
        return LlamaForCausalLM(SMOLLM)


def test_a_token_of_smollm_takes_what_was_measured(smollm: LlamaForCausalLM) -> None:
    assert 2e6 < batch_tokens.token_bytes(smollm) < 3e6


@pytest.mark.parametrize(("free", "tokens"), [(8 * GIB, 1024), (64 * GIB, 4096), (2 * GIB, 256), (0, 128)])
def test_auto_is_the_largest_power_of_two_that_half_of_the_free_memory_holds(
    smollm: LlamaForCausalLM, monkeypatch: pytest.MonkeyPatch, free: int, tokens: int
) -> None:
    monkeypatch.setattr(batch_tokens, "free_bytes", lambda device: free)
    assert batch_tokens.resolve("auto", smollm, most=4096) == tokens
    assert batch_tokens.resolve(77, smollm, most=4096) == 77


def test_the_embedded_model_takes_the_most_whatever_the_memory(
    series_world: SeriesWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_tokens, "free_bytes", lambda device: 0)
    model = series_world.load()[0]
    given = [batch_tokens.resolve("auto", model, most=most) for most in (effort.MOST_TOKENS, fine_tuning.MOST_TOKENS)]
    assert given == [4096, 16384]  # what they were before they followed the memory


def test_a_container_has_no_more_than_its_limit_leaves(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_tokens, "CGROUP", tmp_path)
    whole = batch_tokens.free_bytes(CPU)
    (tmp_path / "memory.current").write_text("1000\n")
    (tmp_path / "memory.max").write_text("3000\n")
    assert batch_tokens.free_bytes(CPU) == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert batch_tokens.free_bytes(CPU) > whole / 10
