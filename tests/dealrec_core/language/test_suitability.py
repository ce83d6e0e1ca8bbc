"""Models in the shape of public bug reports (shared/cases): what a night cannot tune is told in one line before it begins."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from dealrec_core import settings
from dealrec_core.errors import SettingsError
from dealrec_core.language import lora, suitability
from dealrec_core.settings.language import LoraConfig
from flows.look import doctor
from tasks import base_models
from tests.dealrec_core.conftest import SeriesWorld

ATTENTION = LoraConfig(modules="attention")


@pytest.fixture(scope="module")
def made(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The case's GPT-2, with an end token and without."""
    program = data_root.parent / "cases" / "gpt2-c_attn" / "make_model.py"
    folders = {ends: tmp_path_factory.mktemp("gpt2") for ends in ("eos", "noeos")}
    for ends, folder in folders.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [str(program), str(folder), ends])
            runpy.run_path(str(program))
    return folders


@pytest.mark.data
def test_the_attention_of_a_gpt2_is_found(made: dict[str, Path]) -> None:
    line = suitability.look(str(made["eos"]), ATTENTION)
    assert line.endswith("gpt2, 0.1 million weights, no chat template; c_attn learn")
    assert suitability.look(str(made["eos"]), LoraConfig()).endswith("every linear layer learn")
    tuned = lora.with_lora(AutoModelForCausalLM.from_pretrained(made["eos"]), ATTENTION, seed=0)
    assert {name.split(".lora_")[0][-6:] for name, weight in tuned.named_parameters() if weight.requires_grad} == {
        "c_attn"
    }


@pytest.mark.data
def test_a_tokenizer_without_an_end_token_is_told(made: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match=r"has no end token; name one as eos_token in its tokenizer_config\.json"):
        suitability.look(str(made["noeos"]), ATTENTION)


def test_doctor_and_the_night_say_that_a_folder_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.look._registry", lambda config: "not asked")  # MLflow takes seconds to import
    (tmp_path / "pipeline.toml").write_text(
        'language_model.base_model = "/no/such/folder"\n[sources.interactions]\nfiles = ["*.csv"]'
    )
    places = [f"sources.root={tmp_path}", f"lake.root={tmp_path}/lake", f"run.home={tmp_path}"]
    places.append(f"registry.tracking_uri=sqlite:///{tmp_path}/mlflow.db")
    (check,) = [check for check in doctor(str(tmp_path / "pipeline.toml"), places) if check.what == "base model"]
    assert not check.ok
    assert check.state.startswith(
        "language_model.base_model '/no/such/folder': there is no such folder; use 'embedded'"
    )
    config = settings.load(tmp_path / "pipeline.toml", places)
    with pytest.raises(SettingsError, match="there is no such folder"):
        base_models.look(config)


@pytest.mark.parametrize(
    ("kind", "attention"),
    [
        ("llama", ["q_proj", "v_proj"]),
        ("phi", ["q_proj", "v_proj"]),
        ("phi3", ["qkv_proj"]),
        ("gpt_neox", ["query_key_value"]),
        ("falcon", ["query_key_value"]),
    ],
)
def test_query_and_value_are_found_by_every_name(kind: str, attention: list[str]) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    shape = AutoConfig.for_model(kind, vocab_size=32, pad_token_id=0, **sizes)
    with torch.device("meta"):
        assert lora.targets(AutoModelForCausalLM.from_config(shape), "attention") == attention


def test_layers_without_a_known_name_are_listed_with_the_setting(series_world: SeriesWorld) -> None:
    model = series_world.load()[0]
    for layer in model.model.layers:
        layer.self_attn.query = layer.self_attn.__dict__["_modules"].pop("q_proj")
    named = r"of a 'llama' are not known; its linear layers are .*query.*; set fine_tune\.lora\.modules to 'all'"
    with pytest.raises(SettingsError, match=named):
        lora.targets(model, "attention")


def test_a_folder_of_pickled_weights_is_told_before_the_night(series_world: SeriesWorld, tmp_path: Path) -> None:
    model, tokenizer = series_world.load()
    tokenizer.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(SettingsError, match=r"has no \*\.safetensors \(there is .*pytorch_model\.bin"):
        suitability.look(str(tmp_path), ATTENTION)
