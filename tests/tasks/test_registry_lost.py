"""A registered model that was deleted, an experiment that was deleted, and a server that begins anew, with MLflow in a file."""

from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
from prefect.logging import disable_run_logger

from dealrec_core.errors import RegistryError, SettingsError
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import Champion
from dealrec_core.settings.run import RegistryConfig
from tasks import champions, registry, registry_file

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def config(tmp_path: Path) -> RegistryConfig:
    return RegistryConfig(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=str(tmp_path / "artifacts"))


def version_of(config: RegistryConfig, night: str, sha256: str = "a") -> str:
    """A version of the registered model, as a night makes one."""
    client = mlflow.MlflowClient(tracking_uri=config.tracking_uri)
    if not client.search_registered_models(f"name = '{config.model}'"):
        client.create_registered_model(config.model)
    tags = {registry.NIGHT_TAG: night, registry.SHA256_TAG: sha256}
    return str(client.create_model_version(config.model, "file:///nowhere", tags=tags).version)


def aliases(config: RegistryConfig) -> dict[str, str]:
    return registry.aliases(config)[0]


def test_a_server_that_is_gone_is_told_in_one_line_with_the_next_step(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = RegistryConfig(tracking_uri="http://127.0.0.1:9")
    wanted = r"MLflow at http://127.0.0.1:9 does not answer; start it \(`make up`\) and run the command again: finished stages are kept"
    with pytest.raises(RegistryError, match=f"^{wanted}$"):
        registry.aliases(gone)


@pytest.mark.data  # the case registered-model-deleted
def test_a_deleted_registered_model_makes_no_other_model_champion(config, tmp_path, monkeypatch):
    lake, lost = Lake(str(tmp_path / "lake")), []
    monkeypatch.setattr(champions.events, "champion_lost", lambda _, **told: lost.append(told["message"]))
    client = mlflow.MlflowClient(tracking_uri=config.tracking_uri)
    with disable_run_logger():
        model = Champion(night="good", bundle="b", version=version_of(config, "good"), trained_through=NOW)
        promotions.record(lake, night=model, action=promotions.SET_BY_HAND, reason="", who="MLflow", now=NOW)
        champions.heal(config, lake)
        assert aliases(config) == {"champion": "1"}
        client.delete_registered_model(config.model)
        assert version_of(config, "rejected") == "1"  # the number of the champion that is gone
        champions.heal(config, lake, candidate="1")
        champions.follow_registry(config, lake)
        assert aliases(config) == {"candidate": "1"}
        assert "version 1 of night good, is not in MLflow" in lost[0]
        assert "`dealrec register-champion` registers it again" in lost[0]
        assert promotions.champion(lake).night == "good"
        assert version_of(config, "good") == "2"  # registered again
        champions.heal(config, lake)
        assert aliases(config) == {"candidate": "1", "champion": "2"}
        assert champions.follow_registry(config, lake) is None


def test_a_night_of_another_lake_with_the_same_name_is_told_by_its_hash(config):
    version_of(config, "night", sha256="other")
    model = Champion(night="night", bundle="b", version="1", trained_through=NOW)
    assert registry.version_of(config, model, "own") is None
    assert registry.version_of(config, model, None) == "1"  # a version of an older program has no hash
    version_of(config, "night", sha256="own")
    assert registry.version_of(config, model, "own") == "2"


@pytest.mark.data  # the case experiment-deleted
def test_a_deleted_experiment_is_told_with_the_command_that_restores_it(config):
    registry.require_experiment(config)
    client = mlflow.MlflowClient(tracking_uri=config.tracking_uri)
    number = client.get_experiment_by_name("dealrec").experiment_id
    client.delete_experiment(number)
    with (
        disable_run_logger(),
        pytest.raises(SettingsError, match=rf"'dealrec' was deleted .* restore -x {number}`\) or set"),
    ):
        champions.require_experiment(config)
    client.restore_experiment(number)
    champions.require_experiment(config)


def test_after_a_move_of_the_folder_a_night_stops_until_mlflow_knows_the_new_one(config, tmp_path):
    run = mlflow.MlflowClient(tracking_uri=config.tracking_uri)
    experiment = run.create_experiment(config.experiment, artifact_location=(tmp_path / "artifacts").as_uri())
    run.log_text(run.create_run(experiment).info.run_id, "kept", "note.txt")
    (moved := tmp_path / "moved%20here").mkdir()
    for name in ("mlflow.db", "artifacts"):
        (tmp_path / name).rename(moved / name)
    here = RegistryConfig(tracking_uri=f"sqlite:///{moved}/mlflow.db", artifacts=str(moved / "artifacts"))
    with disable_run_logger():
        with pytest.raises(
            SettingsError,
            match=f"names the folder {tmp_path}/artifacts for artifacts, but this folder is gone.*doctor --repair",
        ):
            champions.require_experiment(here)
        registry_file.follow_move(here)
        champions.require_experiment(here)
    client = mlflow.MlflowClient(tracking_uri=here.tracking_uri)
    (found,) = client.search_runs([experiment])
    assert Path(client.download_artifacts(found.info.run_id, "note.txt")).read_text() == "kept"
