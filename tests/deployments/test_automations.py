"""deployments/automations.yaml: every automation is one that Prefect accepts and refers to what is deployed."""

from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
import yaml
from prefect.automations import AutomationCore

from flows import set_up
from tasks import bridge, events

FOLDER = Path(__file__).resolve().parents[2] / "deployments"
AUTOMATIONS = yaml.safe_load((FOLDER / "automations.yaml").read_text("utf-8"))
DEPLOYED = {
    f"{each['name']}/{each['name']}"
    for each in yaml.safe_load((FOLDER / "prefect.yaml").read_text("utf-8"))["deployments"]
}


class Server:
    """Knows the deployments by name, as Prefect's client does."""

    def read_deployment_by_name(self, name: str) -> SimpleNamespace:
        assert name in DEPLOYED
        return SimpleNamespace(id=uuid4())


@pytest.mark.parametrize("described", AUTOMATIONS, ids=lambda described: described["name"])
def test_every_automation_is_accepted_and_names_what_is_deployed(described):
    resolved = set_up._resolved(Server(), described, str(uuid4()))
    assert AutomationCore.model_validate(resolved).actions


def test_a_silent_run_is_marked_within_ninety_seconds_also_before_its_first_heartbeat():
    trigger = AUTOMATIONS[0]["trigger"]
    assert "prefect.flow-run.Running" in trigger["after"]
    assert trigger["within"] + 30 <= 90  # the heartbeat comes every 30 s


def test_every_event_of_ours_that_an_automation_waits_for_is_emitted_somewhere():
    waited = {event for each in AUTOMATIONS for event in each["trigger"]["expect"] if "prefect." not in event}
    assert waited - {"coreset.emitted"} == {events.CANDIDATE, events.QUARANTINE, events.LOST, bridge.EVENT}


def test_alarms_are_told_apart_by_their_name():
    posting = {each["name"] for each in AUTOMATIONS if any("block" in action for action in each["actions"])}
    assert posting == {each["name"] for each in AUTOMATIONS if each["name"].startswith("dealrec alarm")}
