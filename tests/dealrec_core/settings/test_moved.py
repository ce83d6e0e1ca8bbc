import pytest

from dealrec_core import settings
from dealrec_core.errors import SettingsError
from dealrec_core.settings import Config
from dealrec_core.settings.moved import GONE, RENAMED, VALUES, translated
from dealrec_core.settings.section import leaves

DEMO = "deployments/examples/demo.toml"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluate.k=5", "unknown setting 'evaluate'; it is 'evaluation' now"),
        (
            "influence.curvature=hessian",
            r"'influence.curvature'; moved to the study's settings; a night always uses gauss_newton",
        ),
        (
            "surrogate.history_length=50",
            r"'surrogate.history_length'; was removed; a night uses samples.history_length",
        ),
        ("coreset.method=dealrec-released", "'coreset.method' = 'dealrec-released': .*this value is for studies"),
    ],
)
def test_a_message_about_an_old_setting_says_what_became_of_it(override, message):
    with pytest.raises(SettingsError, match=message):
        settings.load(DEMO, [override])


def test_no_old_name_is_a_setting_of_today_and_every_new_name_is_one():
    names = {name for name, _ in leaves(Config)}
    assert not names & (RENAMED.keys() | GONE.keys())
    assert {RENAMED["recommender.history_length"], *VALUES} <= names
    assert RENAMED["evaluate"] in Config.model_fields


def test_settings_of_an_old_night_are_read_under_todays_names():
    old = {
        "sources": {"root": "logs", "interactions": {"files": ["*.csv"]}},
        "run": {"warm_start": True, "seed": 3},
        "evaluate": {"k": 5, "cold_below": 7},
        "influence": {"solver": "lissa", "damping": 2.0, "kept_mb": 0},
        "recommender": {"history_length": 4},
        "fine_tune": {"judge": "loss", "lora": {"rank": 2, "dropout": 0.0}},
        "tiger": {"lora": {"rank": 2}, "width": 16},
    }
    config = Config.model_validate(translated(old))
    assert (config.run.seed, config.evaluation.k, config.influence.damping) == (3, 5, 2.0)
    assert (config.influence.solver, config.recommender.titles) == ("cg", 4)
    assert (config.fine_tune.lora.rank, config.tiger.width) == (2, 16)


def test_settings_of_today_are_translated_to_themselves():
    config = settings.load(DEMO)
    assert Config.model_validate(translated(config.model_dump())) == config


def test_an_old_night_whose_address_has_a_password_is_read_without_it():
    old = {"registry": {"tracking_uri": "http://me:hunter2@mlflow:5000"}}
    assert translated(old) == {"registry": {"tracking_uri": "http://mlflow:5000"}}
