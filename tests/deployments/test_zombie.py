"""A night whose process is killed under a worker that cannot tell: marked, freed, and started again by itself."""

import os
import signal
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]


def processes(site, *words: str) -> list[psutil.Process]:
    """Processes below the one that started the site, whose command has all these words."""
    found = psutil.Process(site.process.pid).children(recursive=True)
    return [each for each in found if all(word in " ".join(each.cmdline()) for word in words)]


def test_a_killed_night_is_marked_within_ninety_seconds_and_goes_on_by_itself(site):
    deployment = site.api("/deployments/name/nightly/nightly")
    request = {"config": "deployments/examples/demo.toml", "overrides": ["run.seed=7"]}
    run = site.api(
        f"/deployments/{deployment['id']}/create_flow_run",
        {"parameters": {"request": request}, "state": {"type": "SCHEDULED"}},
    )
    site.wait(run["id"], {"RUNNING"})
    (worker,) = processes(site, "worker start", "--pool cpu")
    flow = worker.children(recursive=True)
    worker.suspend()  # a worker that was killed cannot say that its flow crashed, and neither can this one
    killed = time.monotonic()
    for each in flow:
        os.kill(each.pid, signal.SIGKILL)
    try:
        crashed = site.wait(run["id"], {"CRASHED"}, seconds=120)
        marked_after = time.monotonic() - killed
    finally:
        worker.resume()
    assert "no heartbeat" in crashed["state"]["message"]
    assert marked_after <= 90
    again = next_run(site, deployment["id"], after=run["id"])
    assert "started-again" in again["tags"]
    created = datetime.fromisoformat(run["created"])  # a night that names no day is of the last whole one before it
    assert again["parameters"]["request"]["day"] == f"{created.astimezone(UTC) - timedelta(days=1):%Y-%m-%d}"
    assert site.wait(again["id"], {"COMPLETED"}, seconds=600)["state"]["type"] == "COMPLETED"


def next_run(site, deployment: str, *, after: str) -> dict:
    """The run that an automation started."""
    for _ in range(240):
        wanted = {"deployment_id": {"any_": [deployment]}, "tags": {"all_": ["started-again"]}}
        found = [run for run in site.api("/flow_runs/filter", {"flow_runs": wanted}) if run["id"] != after]
        if found:
            return found[0]
        time.sleep(1)
    raise AssertionError("no run was started again")
