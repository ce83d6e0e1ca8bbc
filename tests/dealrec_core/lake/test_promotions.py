from datetime import UTC, datetime

import pytest

from dealrec_core.errors import DataError
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import Champion


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path))


def decide(lake: Lake, version: str, action: str, hour: int) -> None:
    moment = datetime(2026, 1, 1, hour, tzinfo=UTC)
    model = Champion(night=f"n{version}", bundle=f"models/{version}", version=version, trained_through=moment)
    promotions.record(lake, night=model, action=action, reason="because", who="gate", now=moment)


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
