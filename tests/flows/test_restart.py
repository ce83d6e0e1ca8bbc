from datetime import UTC, datetime
from uuid import uuid4

from prefect.client.schemas.objects import FlowRun

from flows import restart

BEFORE_MIDNIGHT = datetime(2026, 1, 5, 23, 50, tzinfo=UTC)


def run(**named) -> FlowRun:
    return FlowRun(flow_id=uuid4(), name="crashed", start_time=BEFORE_MIDNIGHT, **named)


def test_a_night_without_a_day_stays_the_night_of_its_last_whole_day_after_midnight():
    parameters = {"request": {"overrides": ["run.seed=1"]}}
    assert restart.same_night(run(parameters=parameters)) == {
        "request": {"overrides": ["run.seed=1"], "day": "2026-01-04"}
    }


def test_a_night_that_was_named_keeps_its_name():
    for request in ({"day": "2026-01-01"}, {"night": "2026-01-01-abc"}, {"resume": True}):
        assert restart.same_night(run(parameters={"request": request})) == {"request": request}


def test_a_run_is_started_again_once():
    assert "crashed again" in restart._refusal(run(tags=[restart.RESTARTED], deployment_id=uuid4()))
    assert "has no deployment" in restart._refusal(run())
    assert restart._refusal(run(deployment_id=uuid4())) is None
