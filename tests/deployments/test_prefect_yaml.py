import importlib
from pathlib import Path

import pytest
import yaml
from prefect import Flow

ROOT = Path(__file__).resolve().parents[2]
DEPLOYMENTS = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())["deployments"]


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda deployment: deployment["name"])
def test_every_deployment_names_a_flow_that_can_be_imported(deployment):
    module, name = deployment["entrypoint"].rsplit(".", 1)
    flow = getattr(importlib.import_module(module), name)
    assert isinstance(flow, Flow)
    assert flow.name == deployment["name"]


def test_every_flow_file_is_deployed():
    by_hand = {"register_champion", "take_again"}  # commands alone start them
    flows = {path.stem for path in (ROOT / "flows").glob("*.py") if "\n@flow" in path.read_text("utf-8")}
    assert flows - by_hand == {deployment["entrypoint"].split(".")[1] for deployment in DEPLOYMENTS}


def test_the_night_is_scheduled_once_a_day_and_never_twice_at_once():
    nightly = next(deployment for deployment in DEPLOYMENTS if deployment["name"] == "nightly")
    assert nightly["schedules"] == [{"cron": "0 2 * * *", "timezone": "UTC"}]
    assert nightly["concurrency_limit"]["limit"] == 1


def test_upkeep_is_scheduled_once_a_week_away_from_the_night():
    upkeep = next(deployment for deployment in DEPLOYMENTS if deployment["name"] == "upkeep")
    assert upkeep["schedules"] == [{"cron": "0 12 * * 0", "timezone": "UTC"}]


def test_no_python_file_shadows_the_docker_package():
    assert not list((ROOT / "docker").glob("*.py"))
    assert not list((ROOT / "deployments").rglob("*.py"))
