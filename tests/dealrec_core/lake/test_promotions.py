from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.lake import Lake, promotions, upkeep
from dealrec_core.lake.draft import Draft
from dealrec_core.lake.nights import Champion

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = 365 * 24


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path))


def decide(lake: Lake, version: str, action: str, hour: int) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
    model = Champion(night=f"n{version}", bundle=f"models/{version}", version=version, trained_through=NOW)
    promotions.record(lake, night=model, action=action, reason="because", who="gate", now=moment)


def roll_back(lake: Lake) -> str:
    """What a rollback does to the table; the champion afterwards."""
    restored = promotions.previous(lake)
    if promotions.champion(lake) != restored:
        decide(lake, restored.version, promotions.ROLLED_BACK, 0)
    return promotions.champion(lake).version


def test_nobody_is_champion_at_first(lake):
    assert promotions.champion(lake) is None


def test_a_model_that_tuning_left_as_it_was_does_not_replace_the_champion_and_is_not_called_rejected(lake):
    decide(lake, "1", promotions.PROMOTED, 1)
    decide(lake, "2", promotions.outcome({"promoted": False, "unchanged": "no epoch was better"}), 2)
    assert promotions.champion(lake).version == "1"
    assert promotions.decisions(lake)["action"].to_list() == ["promoted", "unchanged"]
    assert promotions.outcome({"promoted": True, "unchanged": "no epoch was better"}) == "promoted"
    assert promotions.outcome({"promoted": False, "unchanged": None}) == "rejected"


def test_a_rejected_model_does_not_replace_the_champion(lake):
    decide(lake, "1", promotions.PROMOTED, 1)
    decide(lake, "2", promotions.REJECTED, 2)
    assert promotions.champion(lake).version == "1"


def test_a_rollback_is_a_row_and_restores_the_one_before(lake):
    decide(lake, "1", promotions.PROMOTED, 1)
    decide(lake, "2", promotions.PROMOTED, 2)
    assert promotions.previous(lake).version == "1"
    decide(lake, "1", promotions.ROLLED_BACK, 3)
    assert promotions.champion(lake).version == "1"
    assert promotions.decisions(lake)["action"].to_list() == ["promoted", "promoted", "rolled back"]


def test_there_is_nothing_to_go_back_to_before_two_champions(lake):
    decide(lake, "1", promotions.PROMOTED, 1)
    with pytest.raises(DataError, match="no earlier champion"):
        promotions.previous(lake)


@pytest.mark.parametrize("hours", [(1, 0), (YEAR, 2), (5, 5)], ids=["an hour back", "a year ahead", "the same moment"])
@pytest.mark.parametrize("compacted", [False, True])
def test_the_last_word_wins_whatever_the_clock_says(lake, hours, compacted):
    decide(lake, "1", promotions.PROMOTED, 0)
    for version, hour in zip("23", hours, strict=True):
        decide(lake, version, promotions.PROMOTED, hour)
    if compacted:
        assert upkeep.compact(lake, "promotions", file_mib=1) == 3
        upkeep.vacuum(lake, "promotions", keep=set(), retention_hours=0)
        upkeep.settle(lake, "promotions")
    assert promotions.champion(lake).version == "3"
    assert roll_back(lake) == "2"
    decide(lake, "4", promotions.SET_BY_HAND, -YEAR)
    assert promotions.champion(lake).version == "4"
    assert promotions.decisions(lake)["version"].to_list() == ["1", "2", "3", "2", "4"]


def test_a_rollback_that_is_sent_again_changes_nothing_until_there_is_a_new_promotion(lake):
    decide(lake, "1", promotions.PROMOTED, 1)
    decide(lake, "2", promotions.PROMOTED, 2)
    assert [roll_back(lake) for _ in range(3)] == ["1", "1", "1"]
    assert promotions.decisions(lake).height == 3
    decide(lake, "3", promotions.PROMOTED, 3)
    assert [roll_back(lake) for _ in range(2)] == ["1", "1"]
    decide(lake, "2", promotions.SET_BY_HAND, 4)
    decide(lake, "4", promotions.REJECTED, 5)
    assert [roll_back(lake) for _ in range(2)] == ["1", "1"]


def test_the_rows_of_an_older_program_are_the_oldest_in_the_order_of_its_clock(lake):
    model = {"night": "n", "bundle": "b", "trained_through": NOW, "reason": "r", "who": "gate", "action": "promoted"}
    old = pl.Schema({name: kind for name, kind in schema.PROMOTIONS.items() if name != "number"})
    for version, hour in (("1", 1), ("2", YEAR)):
        row = {"at": NOW + timedelta(hours=hour), **model, "version": version}
        lake.append("promotions", pl.DataFrame([row], schema=old), schema=old)
    assert promotions.champion(lake).version == "2"
    decide(lake, "3", promotions.PROMOTED, 2)
    assert promotions.champion(lake).version == "3"
    assert promotions.previous(lake).version == "2"
    assert promotions.decisions(lake)["version"].to_list() == ["1", "2", "3"]


def test_two_decisions_at_once_have_an_order(lake, monkeypatch):
    decide(lake, "1", promotions.PROMOTED, 1)
    written = Draft.write

    def overtaken(draft: Draft, frame: pl.DataFrame) -> None:
        monkeypatch.setattr(Draft, "write", written)
        decide(lake, "2", promotions.PROMOTED, 2)
        draft.write(frame)

    monkeypatch.setattr(Draft, "write", overtaken)
    decide(lake, "3", promotions.PROMOTED, 3)
    numbers = promotions.decisions(lake)["number"]
    assert promotions.champion(lake).version == "3"
    assert numbers.to_list() == sorted(set(numbers))
