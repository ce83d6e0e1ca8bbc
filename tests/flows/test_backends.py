"""Nights with the other backend and with other settings of tuning and effort."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pandas as pd
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from dealrec_core import schema, settings
from dealrec_core.errors import DataError
from dealrec_core.evaluation import calibrating
from dealrec_core.ingest import synthetic
from dealrec_core.lake import nights, promotions
from dealrec_core.lake.nights import Champion, Night, Snapshot
from dealrec_core.language import effort
from dealrec_core.language.prompts import Prompter, words
from dealrec_core.recommenders import backend, bundle
from flows.ingest import ingest
from flows.nightly import nightly
from flows.retrain_surrogate import retrain_surrogate
from flows.score_samples import score_samples
from tasks.stages import base_model
from tasks.tonight import Tonight
from tests.flows.conftest import DEMO, Town, new_town

PROMOTE = ["gate.confidence=0"]


def test_tiger_goes_through_a_whole_night_and_is_served(tiger_town: Town) -> None:
    first, second = nights.nights(tiger_town.lake)
    assert first.finished
    assert second.finished
    mlflow.set_tracking_uri(tiger_town.config.registry.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/recommender@candidate")
    known = set(tiger_town.lake.scan("items").collect()[schema.ITEM_ID])
    answers = model.predict(pd.DataFrame({"history": [["i00001", "i00002"], ["?"], []]}), params={"k": 5})["item_ids"]
    assert all(len(set(items)) == 5 and set(items) <= known for items in answers)


def test_tigers_base_is_built_once_and_effort_is_for_new_samples_only(tiger_town: Town) -> None:
    first, second = nights.nights(tiger_town.lake)
    assert [night.need("base_model").facts["built tonight"] for night in (first, second)] == [True, False]
    before, after = first.need("effort").facts, second.need("effort").facts
    assert after["kept"] == before["samples"]
    efforts = tiger_town.lake.scan("efforts").collect()
    assert len(efforts) == after["samples"]
    assert (efforts[schema.EFFORT] > 0).all()


def test_the_coreset_of_the_night_before_is_learnt_again(tiger_town: Town) -> None:
    first, second = nights.nights(tiger_town.lake)
    chosen = tiger_town.lake.scan("coresets").select(schema.NIGHT, schema.SAMPLE_ID).collect()
    (ours,) = [set(chosen.filter(pl.col(schema.NIGHT) == second.name)[schema.SAMPLE_ID])]
    earlier = set(chosen.filter(pl.col(schema.NIGHT) == first.name)[schema.SAMPLE_ID])
    facts = second.need("fine_tune").facts
    assert facts["of earlier coresets"] == len(earlier - ours) > 0
    assert facts["examples"] == len(earlier | ours) + facts["of the validation slice"]


def test_the_evaluation_says_what_is_masked_and_how_lists_are_beside_recall(tiger_town: Town) -> None:
    facts = nights.nights(tiger_town.lake)[1].need("evaluation").facts
    assert facts["seen items"] == "kept"
    assert 0 < facts["candidate coverage"] <= 1
    assert facts["popularity popularity lift"] > 1
    assert "candidate recall of cold items" in facts


def test_a_champion_is_tuned_on_and_its_effort_share_rotates(tmp_path_factory, prefect_server) -> None:
    place = new_town(tmp_path_factory.mktemp("champion"))
    place.write(0)
    place.write(1)
    changed = ["gate.minimum_gain=0", *PROMOTE, "effort.model=champion", "effort.refresh=0.2"]
    changed += ["recommender.decoding=ground"]
    _promote_whatever_comes(place, 0, changed)
    nightly(place.request(1, *changed, "fine_tune.start=champion"))
    first, second = nights.nights(place.lake)
    assert second.need("fine_tune").facts["started from"] == "champion"
    assert second.need("fine_tune").facts["calibration beta"] in calibrating.BETAS
    facts, samples = second.need("effort").facts, first.need("effort").facts["samples"]
    assert facts["refreshed"] == -(-facts["samples"] // 5)  # a fifth, rounded up
    assert facts["kept"] == samples - facts["refreshed"]
    assert facts["model"].split("-")[0] == first.need("effort").facts["model"].split("-")[0]
    assert facts["model"] != first.need("effort").facts["model"]


@pytest.fixture
def instruction_model(tmp_path: Path) -> Path:
    """A small Qwen with a byte-level tokenizer of its own, no begin token and a chat template, as save_pretrained leaves it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet, control = pre_tokenizers.ByteLevel.alphabet(), ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
    seen = [*words(settings.load(DEMO, []).recommender.prompt), *(synthetic.title(series, 0) for series in range(40))]
    tokenizer.train_from_iterator(seen * 2, trainers.BpeTrainer(initial_alphabet=alphabet, special_tokens=control))
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    wrapped.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    torch.manual_seed(0)
    shape = Qwen2Config(
        vocab_size=len(wrapped),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=wrapped.eos_token_id,
    )
    folder = tmp_path / "qwen"
    Qwen2ForCausalLM(shape).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


def test_a_hugging_face_folder_goes_through_a_whole_night_and_is_served(
    instruction_model: Path, tmp_path: Path, prefect_server, monkeypatch
) -> None:
    place = new_town(tmp_path)
    place.write(0)
    prompts, real = [], Prompter.prompt
    monkeypatch.setattr(Prompter, "prompt", lambda *given: prompts.append(real(*given)) or prompts[-1])
    nightly(place.request(0, f'language_model.base_model="{instruction_model}"'))
    (night,) = nights.nights(place.lake)
    assert night.finished
    assert night.need("base_model").facts["base model"] == str(instruction_model)
    assert night.need("effort").facts["computed"] == night.need("effort").facts["samples"]
    texts = PreTrainedTokenizerFast.from_pretrained(instruction_model).batch_decode(prompts)
    assert all(text.startswith("<|im_start|>user\nGiven the games") for text in texts)
    assert all(text.endswith("<|im_end|>\n<|im_start|>assistant\n") for text in texts)
    mlflow.set_tracking_uri(place.config.registry.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/recommender@candidate")
    known = set(place.lake.scan("items").collect()[schema.ITEM_ID])
    (items,) = model.predict(pd.DataFrame({"history": [["i00001", "i00002"]]}), params={"k": 5})["item_ids"]
    assert len(set(items)) == 5
    assert set(items) <= known
    _only_the_recorded_base_is_used(night, instruction_model)


def _only_the_recorded_base_is_used(night: Night, model: Path) -> None:
    """The bundle refers to the base by the hash that the night has recorded; another model in its place is refused."""
    record = night.need("base_model")
    folder = Tonight(night).candidate_folder
    assert not (folder / "base").exists()
    assert bundle.description(folder)["base"] == {"name": model.name, "sha256": record.sha256}
    config = model / "config.json"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(DataError, match=r"has recorded \w{12}; put that model back, or start another night"):
        _ = Tonight(night).base
    night.record(record.model_copy(update={"sha256": "0" * 64}))
    with pytest.raises(DataError, match="its night has recorded 000000000000; fine-tune again"):
        _ = Tonight(night).candidate_folder


def test_a_hub_model_without_a_commit_keeps_the_one_of_the_newest_night() -> None:
    names = ["some/model@old", "some/model@new", "other/model@newer"]
    records = [Snapshot(stage="base_model", facts={"base model": name}) for name in names]
    earlier = [SimpleNamespace(find=lambda stage, record=record: record) for record in (*records, None)]
    tonight = SimpleNamespace(night=SimpleNamespace(earlier=earlier))
    assert base_model._pinned(tonight, "some/model") == "some/model@new"
    assert base_model._pinned(tonight, "some/model@old") == "some/model@old"
    assert base_model._pinned(tonight, "third/model") == "third/model"


def test_other_weights_in_a_models_folder_are_another_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"old")
    config = settings.load(DEMO, [f'language_model.base_model="{tmp_path}"'])
    outside = backend.build("bigrec", config.algorithms, device=torch.device("cpu"), seed=0)
    before = outside.outside_key()
    assert outside.outside_key() == before
    (tmp_path / "model.safetensors").write_bytes(b"new")
    assert outside.outside_key() != before


def test_a_champion_of_another_bundle_format_counts_as_none(tmp_path_factory, prefect_server) -> None:
    place = new_town(tmp_path_factory.mktemp("old"))
    place.write(0)
    place.write(1)
    _promote_whatever_comes(place, 0, [])
    first = nights.nights(place.lake)[0]
    folder = place.lake.local_path(str(first.served.path))
    path = folder / "recommender.json"
    described = json.loads(path.read_text())
    del described["format"]  # as before bundles had one
    path.write_text(json.dumps(described))
    _published_again(folder)
    listing = (folder / "sha256sums.json").read_bytes()
    for record in (
        first.need("fine_tune"),
        first.need("refit"),
    ):  # both name one folder where there was nothing to refit
        if record.path == first.served.path:
            first.record(record.model_copy(update={"sha256": hashlib.sha256(listing).hexdigest()}))
    assert nightly(place.request(1, "fine_tune.start=champion")).outcome in ("promoted", "rejected", "unchanged")
    second = nights.nights(place.lake)[1]
    assert "another bundle format" in second.need("evaluation").facts["champion"]
    assert second.need("fine_tune").facts["started from"] == "base"
    assert second.need("promotion").facts["against"] == "popularity"


def test_effort_goes_on_after_the_last_whole_shard(tmp_path_factory, prefect_server, monkeypatch) -> None:
    place = new_town(tmp_path_factory.mktemp("shards"))
    place.write(0)
    changed = ["effort.shard_samples=100"]
    ingest(place.request(0, *changed))
    retrain_surrogate(place.request(0, *changed))
    real, calls = effort.norms, []

    def dies_in_the_third(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise DataError("stopped in the middle")
        return real(*arguments, **options)

    monkeypatch.setattr(effort, "norms", dies_in_the_third)
    with pytest.raises(DataError, match="stopped in the middle"):
        score_samples(place.request(0, *changed))
    assert len(place.lake.scan("efforts").collect()) == 200
    monkeypatch.setattr(effort, "norms", real)
    facts = score_samples(place.request(0, *changed)).facts
    rows = place.lake.scan("efforts").collect()
    assert len(rows) == rows[schema.SAMPLE_ID].n_unique() == facts["samples"] == facts["computed"] > 300


def _promote_whatever_comes(place: Town, day: int, changed: list[str]) -> None:
    """A night whose candidate becomes champion, whatever the gate says."""
    nightly(place.request(day, *changed))
    night = nights.nights(place.lake)[0]
    if promotions.champion(place.lake) is None:
        tuned = night.need("fine_tune")
        model = Champion(
            night=night.name,
            bundle=str(tuned.path),
            version=str(night.need("promotion").facts["version"]),
            trained_through=datetime.fromisoformat(str(tuned.facts["trained through"])),
        )
        promotions.record(
            place.lake, night=model, action=promotions.PROMOTED, reason="test", who="test", now=datetime.now(UTC)
        )


def _published_again(folder) -> None:
    """Hashes of a folder that was changed by hand."""
    sums = {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "sha256sums.json"
    }
    (folder / "sha256sums.json").write_text(json.dumps(sums, indent=1))
