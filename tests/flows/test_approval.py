"""A better candidate waits for a person: the run pauses, and goes on with what is said in the form."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import get_args

import polars as pl
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun

from dealrec_core import promotions, schema
from dealrec_core.lake import Lake
from dealrec_core.night import Night, Snapshot, reopen
from flows.nightly import nightly
from flows.promote import promote
from tasks.evaluation import CANDIDATE
from tasks.nights import NightRequest, Step
from tests.flows.conftest import DEMO, Town, new_town

STEPS = [step for step in get_args(Step) if step != "promote"]


@pytest.fixture(scope="module")
def judged(prefect_server, tmp_path_factory) -> tuple[Town, str]:
    """A night before its promotion, with a candidate that hits every target: the gate lets it through."""
    place = new_town(tmp_path_factory.mktemp("approval"))
    place.write(0)
    asking = [*place.overrides, "gate.approval=true"]
    request = NightRequest(day=place.request(0).day, config=DEMO, overrides=asking, only=STEPS)
    night = reopen(nightly(request).night, place.lake)
    found = night.need("evaluation")
    perfect = pl.when(pl.col("recommender") == CANDIDATE).then(1.0).otherwise(pl.col("recall")).alias("recall")
    frame = night.lake.scan("evaluations").with_columns(perfect).collect()
    version = night.lake.replace("evaluations", frame, schema=schema.EVALUATIONS)
    night.record(found.model_copy(update={"version": version}))
    return place, night.name


@pytest.fixture
def waiting(judged, tmp_path) -> Callable[..., tuple[Lake, Night, Future[Snapshot], FlowRun]]:
    """Starts the promotion on a copy of the lake, and gives the run that is paused."""
    place, name = judged
    lake = Lake(str(tmp_path / "lake"))
    shutil.copytree(place.lake.root, lake.root)
    pool = ThreadPoolExecutor(1)

    def start(hours: float = 1.0):
        path = f"nights/{name}/manifest.json"
        manifest = reopen(name, lake).manifest
        gate = manifest.settings.gate.model_copy(update={"approval_hours": hours})
        settings = manifest.settings.model_copy(update={"gate": gate})
        lake.write_bytes(path, manifest.model_copy(update={"settings": settings}).model_dump_json().encode())
        places = [*place.overrides, f"lake.root={lake.root}"]
        ending = pool.submit(promote, NightRequest(night=name, config=DEMO, overrides=places))
        with get_client(sync_client=True) as client:
            return lake, reopen(name, lake), ending, paused(client)

    yield start
    pool.shutdown()


def paused(client: SyncPrefectClient) -> FlowRun:
    for _ in range(120):
        found = client.read_flow_runs(flow_run_filter=FlowRunFilter(state={"type": {"any_": ["PAUSED"]}}))
        if found:
            return found[0]
        time.sleep(0.5)
    raise AssertionError("no run is paused")


def decided(lake: Lake) -> tuple[str, str, str]:
    (row,) = promotions.decisions(lake).iter_rows(named=True)
    return row["action"], row["who"], row["reason"]


def test_a_candidate_that_a_person_accepts_is_champion_and_the_row_says_who_and_why(waiting):
    lake, night, ending, run = waiting()
    with get_client(sync_client=True) as client:
        refused = client.resume_flow_run(run.id, run_input={"approve": "perhaps"})
        assert refused.status.value == "REJECT"
        client.resume_flow_run(run.id, run_input={"approve": True, "comment": "looks right", "who": "Ada"})
    facts = ending.result(120).facts
    action, who, reason = decided(lake)
    assert (action, who) == (promotions.PROMOTED, "Ada")
    assert reason.startswith("approved by Ada (looks right); ")
    assert (facts["promoted"], facts["reason"]) == (True, reason)
    assert promotions.champion(lake).night == night.name
    assert promote(NightRequest(night=night.name, config=DEMO, overrides=[f"lake.root={lake.root}"])).facts == facts


def test_a_candidate_that_a_person_rejects_is_not_champion(waiting):
    lake, _, ending, run = waiting()
    with get_client(sync_client=True) as client:
        client.resume_flow_run(run.id, run_input={"approve": False, "comment": "titles are garbled", "who": "Bo"})
    assert ending.result(120).facts["promoted"] is False
    action, who, reason = decided(lake)
    assert (action, who) == (promotions.REJECTED, "Bo")
    assert reason.startswith("not approved by Bo (titles are garbled); ")
    assert promotions.champion(lake) is None


def test_a_candidate_that_nobody_answers_for_is_rejected(waiting):
    lake, _, ending, _ = waiting(hours=0.001)
    assert ending.result(120).facts["promoted"] is False
    action, who, reason = decided(lake)
    assert (action, who) == (promotions.REJECTED, "nobody")
    assert reason.startswith("not approved by nobody (no word within 0.001 hours); ")
