"""The embedded model: it is a normal Hugging Face folder, it learns the frame, and the seed decides everything."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from dealrec_core.errors import DataError, SettingsError
from dealrec_core.language import language_model
from dealrec_core.language.answer_loss import validation_loss
from dealrec_core.language.prompts import Prompter
from dealrec_core.settings.language import LanguageModelConfig, PromptConfig
from tests.dealrec_core.conftest import CPU, SeriesWorld

TINY = LanguageModelConfig(vocabulary=512, width=32, layers=1, heads=2, steps=3)


def test_a_folder_loads_as_any_hugging_face_model(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    assert model.config.model_type == "llama"
    assert tokenizer.decode(tokenizer("Crimson Harbor 1")["input_ids"]) == "Crimson Harbor 1"
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<begin>", "<end>", "<pad>")


def test_it_has_learnt_to_answer_in_the_frame(series_world: SeriesWorld) -> None:
    model, tokenizer = series_world.load()
    prompter = Prompter(tokenizer, series_world.prompt)
    rows = [prompter.row(example) for example in series_world.examples(50)]
    guessing = np.log(len(series_world.catalogue)) / np.mean([len(answer) for _, answer in rows])
    assert validation_loss(model, rows, device=CPU) < guessing  # nats a token of one title in 120 by chance


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    histories = [["One 1", "One 2"], ["Two 1", "Two 2", "Two 3"], ["Alone"]]
    weights = []
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        titles = ["One 1", "One 2", "Two 1", "Two 2", "Two 3", "Alone"]
        losses = language_model.build(tmp_path / name, titles, histories, config=TINY, prompt=PromptConfig(), seed=seed)
        assert len(losses) == 3
        weights.append(language_model.load(str(tmp_path / name), device=CPU)[0].get_input_embeddings().weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("steps", [1, 2, 10, 11])
def test_any_number_of_steps_works(tmp_path: Path, steps: int) -> None:
    config = TINY.model_copy(update={"steps": steps})
    losses = language_model.build(tmp_path, ["A", "B"], [["A", "B"]], config=config, prompt=PromptConfig(), seed=0)
    assert len(losses) == steps


def test_building_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    language_model.build(tmp_path, ["A", "B"], [["A", "B"]], config=TINY, prompt=PromptConfig(), seed=0)
    assert torch.rand(1) == expected


def test_no_history_of_two_titles_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no history of two titles"):
        language_model.build(tmp_path, ["A"], [["A"], []], config=TINY, prompt=PromptConfig(), seed=0)


def test_a_folder_without_a_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"language_model\.base_model '.*' cannot be loaded"):
        language_model.load(str(tmp_path), device=CPU)


def test_code_of_a_model_folder_is_never_run_nor_asked_for(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "model.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Model: ...\nclass Config: ...\n")
    auto = {"AutoConfig": "model.Config", "AutoModelForCausalLM": "model.Model", "AutoTokenizer": ["model.Model", None]}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "strange", "auto_map": auto}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Model", "auto_map": auto}))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(SettingsError, match="cannot be loaded"):
        language_model.load(str(tmp_path), device=CPU)
    assert not (tmp_path / "ran").exists()


def test_a_model_of_pickled_weights_is_refused_in_one_line(series_world: SeriesWorld, tmp_path: Path) -> None:
    model, tokenizer = series_world.load()
    tokenizer.save_pretrained(tmp_path)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(SettingsError, match=r"cannot be loaded: .*safetensors"):
        language_model.load(str(tmp_path), device=CPU)


def test_rows_are_filled_up_on_the_right() -> None:
    assert language_model.padded([[1, 2, 3], [4]], value=-1).tolist() == [[1, 2, 3], [4, -1, -1]]


def test_four_bits_without_a_gpu_are_one_clear_line(series_world: SeriesWorld) -> None:
    with pytest.raises(SettingsError, match=r"four_bit needs a CUDA GPU, this runs on cpu; set it to false"):
        language_model.load(str(series_world.base), device=CPU, four_bit=True)


def test_four_bits_without_the_library_are_one_clear_line(
    series_world: SeriesWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"needs bitsandbytes; pip install -e '.\[qlora\]'"):
        language_model.load(str(series_world.base), device=torch.device("cuda"), four_bit=True)
