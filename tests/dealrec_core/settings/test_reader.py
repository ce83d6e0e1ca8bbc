import traceback
from functools import partial
from pathlib import Path

import pytest

from dealrec_core import settings
from dealrec_core.errors import SettingsError
from dealrec_core.study.config import StudyConfig

MINIMAL = """
[sources]
root = "logs"
[sources.interactions]
files = ["*.csv"]
user_id = "u"
item_id = "i"
timestamp = "t"
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    path = tmp_path / "pipeline.toml"
    path.write_text(MINIMAL + "[coreset]\nratio = 0.05\n")
    return path


def test_what_the_file_leaves_out_has_its_default(pipeline):
    config = settings.load(pipeline)
    assert config.coreset.ratio == 0.05
    assert config.evaluation.k == 10


def test_set_wins_over_environment_and_environment_over_file(pipeline, monkeypatch):
    monkeypatch.setenv("DEALREC_CORESET__RATIO", "0.1")
    monkeypatch.setenv("DEALREC_EVALUATION__K", "5")
    config = settings.load(pipeline, ["coreset.ratio=0.2"])
    assert config.coreset.ratio == 0.2
    assert config.evaluation.k == 5


def test_a_value_that_is_not_toml_is_text(pipeline):
    assert settings.load(pipeline, ["lake.root=s3://bucket/lake"]).lake.root == "s3://bucket/lake"


def test_a_misspelt_setting_names_the_nearest_one(pipeline):
    with pytest.raises(SettingsError, match=r"unknown setting 'coreset\.ratoi'; did you mean 'ratio'\?"):
        settings.load(pipeline, ["coreset.ratoi=0.1"])


def test_a_misspelt_section_names_the_nearest_one(pipeline):
    with pytest.raises(SettingsError, match=r"unknown setting 'corset'; did you mean 'coreset'\?"):
        settings.load(pipeline, ["corset.ratio=0.1"])


def test_a_value_out_of_bounds_names_value_and_limit(pipeline):
    with pytest.raises(SettingsError, match=r"'evaluation\.k' = 0: .*greater than or equal to 1"):
        settings.load(pipeline, ["evaluation.k=0"])


def test_a_missing_setting_is_named(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[sources]\nroot = "x"\n')
    with pytest.raises(SettingsError, match=r"setting 'sources\.interactions' is missing"):
        settings.load(path)


def test_a_missing_file_is_one_line_with_the_next_step(tmp_path):
    with pytest.raises(SettingsError, match="no settings file .*; name one with --config"):
        settings.load(tmp_path / "nowhere.toml")


def test_an_override_without_a_value_is_refused(pipeline):
    with pytest.raises(SettingsError, match="not of the form section.key=value"):
        settings.load(pipeline, ["coreset.ratio"])


ADDRESSES = [
    "http://me:hunter2@mlflow:5000",
    "https://hunter2@mlflow",
    "http://me:hun/hunter2@mlflow",
    "postgresql://me:hunter2@db/mlflow",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("place", ["--set", "environment", "file", "study"])
def test_an_address_with_a_password_is_refused_and_not_repeated(pipeline, monkeypatch, address, place):
    overrides = []
    if place == "--set":
        overrides = [f"registry.tracking_uri={address}"]
    if place == "environment":
        monkeypatch.setenv("DEALREC_REGISTRY__TRACKING_URI", address)
    if place == "file":
        pipeline.write_text(MINIMAL + f'[registry]\ntracking_uri = "{address}"\n')
    if place == "study":
        read = partial(settings.read, StudyConfig, "deployments/studies/games.toml", [f"tracking_uri={address}"])
    else:
        read = partial(settings.load, pipeline, overrides)
    with pytest.raises(SettingsError, match="this address holds a user or a password") as refused:
        read()
    assert "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in str(refused.value)
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


def test_a_message_about_another_fault_does_not_repeat_it_either(pipeline):
    with pytest.raises(SettingsError, match="coreset.ratio") as refused:
        settings.load(pipeline, ["coreset.ratio=0", f"registry.tracking_uri={ADDRESSES[0]}"])
    assert "hunter2" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    "address", ["sqlite:///var/me@work/mlflow.db", "file:///home/me@work/mlruns", "http://mlflow:5000"]
)
def test_an_address_without_a_password_is_taken(pipeline, address):
    assert settings.load(pipeline, [f"registry.tracking_uri={address}"]).registry.tracking_uri == address
