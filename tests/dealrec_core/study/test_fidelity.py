"""The fidelity study on a tiny data set, with real refits."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from dealrec_core.errors import DataError, SettingsError, SourceError
from dealrec_core.settings import read
from dealrec_core.study import fidelity, fidelity_data
from dealrec_core.study.fidelity import FidelityConfig
from tests.dealrec_core.study.conftest import write_released


def config(folder: Path, **changes: Any) -> FidelityConfig:
    """Walks through 12 items in order, few enough for real refits in a test."""
    found: dict[str, Any] = {
        "kind": "released",
        "data": str(write_released(folder / "data", users=40, items=12)),
        "folder": str(folder / "starts"),
        "items": 12,
        "history_length": 2,
        "width": 4,
        "starts": 1,
        "halves": 8,
        "left_out": 3,
        "settling": 40,
        "refit": {"steps": 20, "learning_rate": 3e-2, "decay": 3e-2},
    }
    return FidelityConfig(**found | changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fidelity")


@pytest.fixture(scope="module")
def found(place: Path) -> dict[str, Any]:
    return fidelity.study(config(place))


def test_a_gain_is_the_difference_of_two_correlations_on_the_same_refits(found) -> None:
    ours, random = (found["estimators"][name]["lds"] for name in ("cg, damping = decay", "random"))
    gain = found["estimators"]["cg, damping = decay"]["lds, gain over random"]
    assert gain[0] == pytest.approx(ours[0] - random[0], abs=2e-3)


def test_finished_starts_are_read_and_not_made_again(place: Path, found) -> None:
    before = {file: file.stat().st_mtime_ns for file in (place / "starts").iterdir()}
    assert len(before) == 2  # what happened, and what was said of it
    assert fidelity.study(config(place)) == found
    assert {file: file.stat().st_mtime_ns for file in (place / "starts").iterdir()} == before
    happened, said = (json.loads(file.read_text()) for file in sorted(before))
    assert {len(happened["risks"]), *(len(sums) for sums in said["sums"].values())} == {8}


def test_the_table_has_a_line_for_every_estimator_also_for_one_that_failed(found) -> None:
    failed = {**found, "estimators": {**found["estimators"], "broken": {"evidence": [{"error": "negative curvature"}]}}}
    lines = fidelity.table(failed).splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == list(failed["estimators"])
    assert lines[-1].replace(" ", "") == "|broken|0|" + "|" * 8


def test_a_surrogate_as_a_night_trains_it_is_refitted_on_halves_alone(place: Path) -> None:
    found = fidelity.study(config(place, training="nightly", halves=6))
    assert "leave one out" not in found["estimators"]["identity"]
    assert set(found["estimators"]["identity"]) >= {"lds", "lds, gain over released", "evidence"}


def test_several_trainings_of_a_half_differ_and_their_mean_is_what_happened(place: Path) -> None:
    """More trainings change what happened and not what an estimator says of it."""
    changes = {"training": "nightly", "halves": 6}
    once, twice = (fidelity.study(config(place, **changes, trainings=count)) for count in (1, 2))
    assert not {key for key in once["starts"][0] if "agreement" in key}
    facts = twice["starts"][0]
    agree = facts["agreement of two trainings"]
    assert -1 <= agree < 1
    assert facts["agreement of the means"] == pytest.approx(2 * max(agree, 0) / (1 + max(agree, 0)))
    assert facts["risk over halves, mean"] != once["starts"][0]["risk over halves, mean"]
    evidence = (found["estimators"]["identity"]["evidence"] for found in (once, twice))
    assert next(evidence) == next(evidence)


def test_popular_items_are_numbered_by_popularity_and_others_dropped() -> None:
    """Item 7 stands three times, 5 and 3 twice (the lower one first), 9 once."""
    events = pl.DataFrame({"user": [0, 0, 0, 1, 1, 1, 1, 2], "item": [7, 5, 3, 5, 7, 9, 3, 7]})
    assert fidelity_data.popular(events, 2) == [[0, 1], [0, 1], [0]]


def test_a_users_last_item_is_the_risk_and_the_latest_before_it_are_train_samples() -> None:
    train, risk = fidelity_data.samples([[1, 2, 3, 4, 5], [6, 7]], history=2, targets=1)
    assert (train.items.tolist(), train.targets.tolist()) == ([2, 3], [4])
    assert (risk.items.tolist(), risk.targets.tolist()) == ([3, 4], [5])
    train, _ = fidelity_data.samples([[1, 2, 3, 4, 5]], history=2, targets=9)
    assert (train.items.tolist(), train.targets.tolist()) == ([1, 2, 2, 3], [3, 4])


def test_the_loss_of_popularity_by_hand() -> None:
    """Targets 0, 0, 1 of three items: counts with one more are 3, 2, 1 of 6; the risk has two 0 and one 2."""
    train, risk = fidelity_data.samples([[1, 0, 0], [1, 0, 2], [1, 1, 0]], history=1, targets=1)
    assert fidelity_data.popularity_loss(train, risk, items=3) == pytest.approx(-np.log([3 / 6, 3 / 6, 1 / 6]).mean())


def test_what_cannot_be_studied_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no user has 9 popular items"):
        fidelity.study(config(tmp_path, history_length=7))
    with pytest.raises(SourceError, match="ratings.csv"):
        fidelity.study(config(tmp_path, kind="movielens"))


@pytest.mark.parametrize("name", ["movielens", "games"])
def test_the_settings_files_are_read_and_a_misspelt_setting_is_an_error(name: str) -> None:
    path = f"deployments/studies/fidelity-{name}.toml"
    assert read(FidelityConfig, path, ["refit.steps=7"]).refit.steps == 7
    with pytest.raises(SettingsError, match="did you mean 'halves'"):
        read(FidelityConfig, path, ["halfs=7"])
