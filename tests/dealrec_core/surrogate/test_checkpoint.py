"""A checkpoint comes back as it was, and a damaged one does not come back at all."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from dealrec_core.errors import DataError
from dealrec_core.samples.calibration import Calibration, Weights
from dealrec_core.settings.surrogate import SurrogateConfig
from dealrec_core.surrogate import checkpoint, networks, serving
from dealrec_core.surrogate.sasrec import Shape


def saved(folder: Path, name: str = "sasrec"):
    model = networks.build(name, Shape(3, width=4, history_length=5), seed=0)
    checkpoint.save(folder, model, item_ids=["a", "b", "c"], config=SurrogateConfig(), lineage={"night": "n1"})
    return model


@pytest.mark.parametrize("name", list(networks.NETWORKS))
def test_a_checkpoint_loads_to_the_same_answers(tmp_path: Path, name: str) -> None:
    model = saved(tmp_path, name).eval()
    loaded, item_ids, lineage = checkpoint.load(tmp_path)
    histories = torch.tensor([[0, 1, 2]])
    assert torch.equal(loaded.last(histories, loaded.item_table()), model.last(histories, model.item_table()))
    assert (item_ids, lineage) == (["a", "b", "c"], {"night": "n1"})


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    saved(tmp_path / "one")
    saved(tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.DESCRIPTION])
def test_one_changed_byte_is_noticed(tmp_path: Path, name: str) -> None:
    saved(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[-2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} has sha256 .* retrain the surrogate"):
        checkpoint.load(tmp_path)


def test_a_folder_without_hashes_is_not_a_checkpoint(tmp_path: Path) -> None:
    saved(tmp_path)
    (tmp_path / checkpoint.HASHES).unlink()
    with pytest.raises(DataError, match="no whole surrogate checkpoint"):
        checkpoint.load(tmp_path)


def test_the_description_is_plain_json(tmp_path: Path) -> None:
    saved(tmp_path)
    described = json.loads((tmp_path / checkpoint.DESCRIPTION).read_text())
    assert described["shape"]["item_count"] == 3
    assert described["config"]["network"] == "sasrec"


def test_a_checkpoint_is_served_with_its_calibration(tmp_path: Path) -> None:
    model = networks.build("sasrec", Shape(3, width=4, history_length=5), seed=0)
    added = Calibration(Weights(beta=1), {"a": -50.0, "b": -1.0, "c": -99.0}, -99.0)
    options = {"item_ids": ["a", "b", "c"], "config": SurrogateConfig(), "lineage": {}}
    checkpoint.save(tmp_path, model, **options, calibrated=added)
    served = serving._load_pyfunc(str(tmp_path))
    assert served.predict(pd.DataFrame({"history": [["a"]]}))["item_ids"].tolist() == [
        ["b", "a", "c"]
    ]  # logits are small
    checkpoint.save(tmp_path, model, **options)
    assert checkpoint.load_calibration(tmp_path) is None
