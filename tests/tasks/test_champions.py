"""The aliases follow the table `promotions`, whoever was killed in between; MLflow is a dictionary here."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

import pytest
from prefect.logging import disable_run_logger

from dealrec_core.errors import DataError, RegistryError
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import Champion
from dealrec_core.settings.run import RegistryConfig
from tasks import champions, registry

CONFIG, NOW = RegistryConfig(), datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path))


@pytest.fixture
def aliases(monkeypatch) -> Iterator[dict[str, str]]:
    """The aliases of the registered model, and as `ours` the champion that was last set from here."""
    state: dict[str, str] = {}

    def heal(_: RegistryConfig, *, versions: Mapping[str, str | None]) -> list[str]:
        wanted = {alias: version for alias, version in versions.items() if version and state.get(alias) != version}
        state.update(wanted)
        if versions.get("champion"):
            state["ours"] = str(versions["champion"])
        return list(wanted)

    monkeypatch.setattr(registry, "heal_aliases", heal)
    monkeypatch.setattr(registry, "aliases", lambda _: (state, state.get("ours")))
    monkeypatch.setattr(registry, "version_of", lambda _, model, sha256: model.version)
    with disable_run_logger():
        yield state


def promote(lake: Lake, version: str) -> None:
    """A promotion that is killed before it has moved an alias."""
    model = Champion(night=f"n{version}", bundle="b", version=version, trained_through=NOW)
    promotions.record(lake, night=model, action=promotions.PROMOTED, reason="better", who="gate", now=NOW)


def rolled_back(lake: Lake) -> str:
    return champions.roll_back(CONFIG, lake, who="me", reason="bad").version


def test_an_alias_that_a_killed_promotion_did_not_move_is_healed_at_the_next_start(lake, aliases):
    promote(lake, "1")
    champions.poll_registry(CONFIG, lake)
    assert aliases == {"champion": "1", "ours": "1"}
    promote(lake, "2")
    champions.poll_registry(CONFIG, lake)
    assert aliases == {"champion": "2", "ours": "2", "previous": "1"}


def test_a_rollback_that_was_killed_before_its_alias_and_one_that_is_repeated_put_the_same_model_in_charge(
    lake, aliases
):
    for version in "12":
        promote(lake, version)
        champions.poll_registry(CONFIG, lake)
    before = dict(aliases)
    assert rolled_back(lake) == "1"
    aliases.update(before)  # as if the first one had been killed before it moved the aliases
    assert [rolled_back(lake), rolled_back(lake)] == ["1", "1"]
    assert aliases == {"champion": "1", "ours": "1", "previous": "1"}
    assert promotions.decisions(lake)["action"].to_list() == ["promoted", "promoted", "rolled back"]
    promote(lake, "3")
    assert rolled_back(lake) == "1"


def test_a_rollback_goes_back_though_mlflow_does_not_answer_and_the_next_start_moves_the_alias(
    lake, aliases, monkeypatch
):
    for version in "12":
        promote(lake, version)
        champions.poll_registry(CONFIG, lake)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "aliases", _no_answer)
        patch.setattr(registry, "heal_aliases", _no_answer)
        patch.setattr(champions.events, "champion_lost", lambda *_, **__: None)
        assert rolled_back(lake) == "1"
    assert aliases["champion"] == "2"
    champions.poll_registry(CONFIG, lake)
    assert aliases["champion"] == "1"


def test_without_an_earlier_champion_a_rollback_is_an_error_and_heals_what_was_not_moved(lake, aliases):
    promote(lake, "1")
    with pytest.raises(DataError, match="no earlier champion to go back to"):
        rolled_back(lake)
    assert aliases["champion"] == "1"


def _no_answer(*_: object, **__: object) -> None:
    raise RegistryError("MLflow does not answer")
