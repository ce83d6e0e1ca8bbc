"""Adapters: they change nothing at first, and a borrowed one leaves no trace."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

from dealrec_core.errors import SettingsError
from dealrec_core.language.answer_loss import validation_loss
from dealrec_core.language.lora import borrowed, with_lora
from dealrec_core.language.prompts import Prompter
from dealrec_core.settings.language import LoraConfig
from tests.dealrec_core.conftest import CPU, SeriesWorld


def test_a_fresh_adapter_changes_nothing(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    rows = [Prompter(tokenizer, series_world.prompt).row(example) for example in series_world.examples(8)]
    before = validation_loss(model, rows, device=CPU)
    assert validation_loss(with_lora(model, LoraConfig(), seed=0), rows, device=CPU) == pytest.approx(before, rel=1e-6)


@pytest.mark.parametrize(("given", "dropout"), [(None, 0.0), (0.2, 0.2)])
def test_a_light_model_drops_nothing_unless_told(
    series_world: SeriesWorld, given: float | None, dropout: float
) -> None:
    model = with_lora(series_world.load()[0], LoraConfig(dropout=given), seed=0)
    assert model.peft_config["default"].lora_dropout == dropout


@pytest.mark.parametrize("kind", ["fresh", "folder"])
def test_a_borrowed_adapter_leaves_the_model_as_it_was(series_world: SeriesWorld, tmp_path: Path, kind: str) -> None:
    with_lora(series_world.load()[0], LoraConfig(), seed=0).save_pretrained(str(tmp_path))
    model, _ = series_world.load()
    frozen = next(iter(model.parameters())).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with borrowed(model, LoraConfig() if kind == "fresh" else tmp_path, seed=0, device=CPU) as tuned:
        assert isinstance(tuned, PeftModel)
        assert any("lora_" in name for name, _ in model.named_parameters())
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [weight.requires_grad for weight in model.parameters()].count(False) == 1
    assert not frozen.requires_grad


def test_an_adapter_that_is_not_there_is_one_clear_line(series_world: SeriesWorld, tmp_path: Path) -> None:
    with (
        pytest.raises(SettingsError, match=r"adapter .* cannot be loaded on this model"),
        borrowed(series_world.load()[0], tmp_path / "nothing", seed=0, device=CPU),
    ):
        pass
