"""A deployment with a schedule has runs that wait for their time."""

import time
from pathlib import Path

import yaml

DEPLOYMENTS = yaml.safe_load(Path("deployments/prefect.yaml").read_text())["deployments"]
SCHEDULED = sorted(deployment["name"] for deployment in DEPLOYMENTS if deployment.get("schedules"))


def test_every_schedule_puts_runs_before_the_workers(site):
    assert "nightly" in SCHEDULED
    planned = dict.fromkeys(SCHEDULED, 0)
    for _ in range(180):
        for name in SCHEDULED:
            deployment = site.api(f"/deployments/name/{name}/{name}")
            waiting = {
                "deployments": {"id": {"any_": [deployment["id"]]}},
                "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            }
            planned[name] = site.api("/flow_runs/count", waiting)
        if all(planned.values()):
            return
        time.sleep(1)
    raise AssertionError(f"runs by schedule: {planned}; the server's log is {site.folder}/logs")
