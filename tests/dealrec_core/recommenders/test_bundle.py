"""A bundle loads by itself and answers as before; a changed file is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors import torch as safetensors

from dealrec_core.errors import DataError, OtherFormat, SettingsError
from dealrec_core.language import bases, whole
from dealrec_core.language.bases import content_sha256
from dealrec_core.language.lora import with_lora
from dealrec_core.recommenders import backend, baselines, bundle, serving
from dealrec_core.recommenders.bigrec import BIGRec
from dealrec_core.samples.calibration import Calibration, Weights
from dealrec_core.settings.language import LoraConfig
from dealrec_core.settings.recommenders import BIGRecConfig
from flows.get_model import get_model
from tests.dealrec_core.conftest import CPU, SeriesWorld


@pytest.fixture(scope="module")
def saved(series_world: SeriesWorld, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BIGRec]:
    """A bundle with a random adapter that changes the answers, and the recommender before it was saved."""
    model, tokenizer = series_world.load()
    tuned = with_lora(model, LoraConfig(rank=4), seed=0)
    generator = torch.Generator().manual_seed(1)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data = 0.3 * torch.randn(weight.shape, generator=generator)
    config = BIGRecConfig(prompt=series_world.prompt, beams=15)
    popular = ["2-0", "0-0", "1-0"]
    folder = tmp_path_factory.mktemp("bundle") / "new"
    before = BIGRec("before", tuned.eval(), tokenizer, series_world.catalogue, popular, config)
    lineage = {"night": "2026-01-01", backend.BASE: content_sha256(series_world.base)}
    bundle.save(folder, before, base=series_world.base, lineage=lineage)
    return folder, before


def test_recommendations_are_equal_before_saving_and_after_loading(
    series_world: SeriesWorld, saved: tuple[Path, BIGRec]
) -> None:
    folder, before = saved
    after = bundle.load(folder, device=CPU, name="after")
    histories = [history for history, _ in series_world.cases[:20]]
    lists = before.recommend(histories, 10)
    assert after.name == "after"
    assert after.recommend(histories, 10) == lists
    plain = BIGRec("plain", series_world.load()[0], before.tokenizer, series_world.catalogue, [], before.config)
    assert plain.recommend(histories, 10) != lists  # or the adapter would not have been tested


@pytest.mark.parametrize("weight", ["popularity", "neighbours"])
def test_ground_decoding_survives_saving_with_its_adapter_and_weights(
    series_world: SeriesWorld, saved: tuple[Path, BIGRec], tmp_path: Path, weight: str
) -> None:
    plain = saved[1]
    settings = {"prompt": series_world.prompt, "decoding": "ground", "gamma": 1.5, "weight": weight}
    config = BIGRecConfig.model_validate(settings)
    taken = [(str(user), item) for user, items in enumerate(series_world.past[:40]) for item in items]
    near = baselines.item_knn(pl.DataFrame(taken, schema=["user_id", "item_id"], orient="row"))
    counts = {"0-0": 9.0, "4-1": 4.0}
    before = BIGRec("ground", plain.model, plain.tokenizer, series_world.catalogue, [], config, counts, near)
    bundle.save(tmp_path, before, base=series_world.base, lineage={})
    histories = [history for history, _ in series_world.cases[:6]]
    assert bundle.load(tmp_path, device=CPU).recommend(histories, 10) == before.recommend(histories, 10)


def test_a_bundle_holds_no_pickle_and_no_path_of_this_machine(
    saved: tuple[Path, BIGRec], series_world: SeriesWorld
) -> None:
    files = [path for path in saved[0].rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".safetensors"}
    texts = [path.read_text() for path in files if path.suffix != ".safetensors"]
    assert not any(str(series_world.base) in text for text in texts)


@pytest.fixture
def referring(saved: tuple[Path, BIGRec], series_world: SeriesWorld, tmp_path: Path, monkeypatch) -> tuple[Path, Path]:
    """A bundle of a model in a folder of its owner's, and that folder; the folder of models is empty before."""
    monkeypatch.setenv("DEALREC_MODELS", str(tmp_path / "models"))
    owned = Path(shutil.copytree(series_world.base, tmp_path / "tiny-model"))
    bundle.save(tmp_path / "bundle", saved[1], base=bases.locate(str(owned)), lineage={})
    return tmp_path / "bundle", owned


def test_a_base_from_outside_is_stored_once_and_found_by_its_hash(
    saved: tuple[Path, BIGRec], series_world: SeriesWorld, referring: tuple[Path, Path]
) -> None:
    folder, owned = referring
    assert not (folder / "base").exists()
    described = json.loads((folder / "recommender.json").read_text())
    assert described["base"] == {"name": "tiny-model", "sha256": content_sha256(owned)}
    assert str(owned.parent) not in (folder / "recommender.json").read_text()
    histories = [history for history, _ in series_world.cases[:5]]
    served = serving._load_pyfunc(str(folder)).predict(pd.DataFrame({"history": histories}), {"k": 10})
    assert served["item_ids"].tolist() == saved[1].recommend(histories, 10)


def test_a_missing_base_is_named_with_the_command_that_gets_it(
    saved: tuple[Path, BIGRec], referring: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, owned = referring
    moved = owned.rename(tmp_path / "elsewhere")
    needed = (
        r"needs base model 'tiny-model' \(sha256 \w{12}\), not found here; run `dealrec get-model tiny-model --from"
    )
    with pytest.raises(DataError, match=needed):
        bundle.load(folder, device=CPU)
    shutil.rmtree(tmp_path / "models")  # another machine
    get_model("tiny-model", moved)
    assert bundle.load(folder, device=CPU).recommend([["3-0"]], 3) == saved[1].recommend([["3-0"]], 3)


def test_a_base_of_other_content_is_refused(referring: tuple[Path, Path]) -> None:
    folder, owned = referring
    config = owned / "config.json"
    config.write_text(config.read_text().replace("4096", "4095"))
    with pytest.raises(DataError, match=r"not found here \(.* has other content\)"):
        bundle.load(folder, device=CPU)


def test_a_base_that_the_lineage_does_not_name_is_refused_though_every_listing_was_renewed(
    saved: tuple[Path, BIGRec], tmp_path: Path
) -> None:
    folder = _copy(saved[0], tmp_path)
    weights = folder / "base" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    whole.seal(folder, "sha256.json")
    with pytest.raises(DataError, match=r"was tuned from base \w{12} and has base \w{12}; copy the bundle again"):
        bundle.load(folder, device=CPU)


def test_an_adapter_of_pickled_weights_is_refused(saved: tuple[Path, BIGRec], tmp_path: Path) -> None:
    folder = _copy(saved[0], tmp_path)
    weights = folder / "adapter" / "adapter_model.safetensors"
    torch.save(safetensors.load(weights.read_bytes()), weights.with_name("adapter_model.bin"))
    weights.unlink()
    whole.seal(folder, "sha256.json")
    with pytest.raises(SettingsError, match=r"it has no adapter_model\.safetensors"):
        bundle.load(folder, device=CPU)


def test_a_flipped_bit_is_refused(saved: tuple[Path, BIGRec], tmp_path: Path) -> None:
    folder = _copy(saved[0], tmp_path)
    weights = next((folder / "adapter").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(DataError, match=r"adapter_model\.safetensors has sha256 \w{12}, but \w{12} is expected"):
        bundle.load(folder, device=CPU)


def test_a_calibration_is_served_and_a_bundle_from_before_there_were_any_has_none(
    saved: tuple[Path, BIGRec], series_world: SeriesWorld, tmp_path: Path
) -> None:
    added = {item: -float(place % 7) for place, item in enumerate(series_world.catalogue.item_ids)}
    before = replace(saved[1], calibration=Calibration(Weights(alpha=0.5, beta=1.5), added, -7.0))
    bundle.save(tmp_path / "new", before, base=series_world.base, lineage={})
    histories = [history for history, _ in series_world.cases[:5]]
    served = serving._load_pyfunc(str(tmp_path / "new"))
    lists = before.recommend(histories, 10)
    assert served.predict(pd.DataFrame({"history": histories}), {"k": 10})["item_ids"].tolist() == lists
    assert bundle.load(tmp_path / "new", device=CPU).calibration.weights == Weights(alpha=0.5, beta=1.5)
    folder = _copy(saved[0], tmp_path)
    described = json.loads((folder / "recommender.json").read_text())
    del described["calibration"]
    for number in (2, 3):
        described |= {"format": number, "lineage": {"base": "another hash than today's"}}
        (folder / "recommender.json").write_text(json.dumps(described))
        whole.seal(folder, "sha256.json")
        old = bundle.load(folder, device=CPU)
        assert old.calibration is None
        assert old.recommend(histories, 10) == saved[1].recommend(histories, 10) != lists


@pytest.mark.parametrize("found", [None, 1, bundle.FORMAT + 1])
def test_another_format_is_told_apart_from_damage(
    saved: tuple[Path, BIGRec], tmp_path: Path, found: int | None
) -> None:
    folder = _copy(saved[0], tmp_path)
    described = json.loads((folder / "recommender.json").read_text())
    del described["format"]
    if found is not None:
        described["format"] = found
    (folder / "recommender.json").write_text(json.dumps(described))
    word = "none" if found is None else str(found)
    with pytest.raises(
        OtherFormat, match=f"has bundle format {word}, this program reads {bundle.FORMAT}; fine-tune again"
    ):
        bundle.load(folder, device=CPU)


def test_a_missing_file_or_folder_is_one_clear_line(saved: tuple[Path, BIGRec], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no whole recommender in"):
        bundle.load(tmp_path / "nothing", device=CPU)
    folder = _copy(saved[0], tmp_path)
    next((folder / "base").glob("*.safetensors")).unlink()
    with pytest.raises(DataError, match="no whole recommender in"):
        bundle.load(folder, device=CPU)


def test_served_frames_answer_lists_arrays_and_missing_histories(saved: tuple[Path, BIGRec]) -> None:
    folder, before = saved
    served = serving._load_pyfunc(str(folder))
    frame = pd.DataFrame({"history": [["3-0"], np.array(["3-0", "unknown"]), [], None]})
    answer = served.predict(frame, params={"k": 3})
    expected = before.recommend([["3-0"]], 3)[0]
    assert answer["item_ids"].tolist() == [expected, expected, ["2-0", "0-0", "1-0"], ["2-0", "0-0", "1-0"]]
    assert len(served.predict(frame)["item_ids"][0]) == 10


def _copy(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target / "copy"))
