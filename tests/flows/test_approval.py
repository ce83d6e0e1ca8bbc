"""A better candidate waits for a person: the run pauses, and goes on with what is said in the form."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun

from dealrec_core import schema
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import Night, Snapshot, reopen
from flows.promote import promote
from tasks import trials
from tasks.nights import NightRequest
from tasks.trials import CANDIDATE
from tests.flows.conftest import DEMO


@pytest.fixture(scope="module")
def judged(town, tmp_path_factory) -> tuple[Lake, str]:
    """The town's first night as before its promotion, with a candidate that has all the evidence it needs."""
    place, summaries = town
    folder = tmp_path_factory.mktemp("approval")
    shutil.copytree(place.lake.root, folder / "lake")
    shutil.copy(place.config.registry.tracking_uri.removeprefix("sqlite:///"), folder / "mlflow.db")
    lake = Lake(str(folder / "lake"))
    shutil.rmtree(folder / "lake" / "promotions")
    night = reopen(summaries[0].night, lake)
    lake.remove(f"nights/{night.name}/stages/promotion.json")
    found = night.need("evaluation")
    sure = pl.col("winnings").list.eval(pl.lit(9.0))  # e^9 to 1
    frame = lake.scan(trials.TABLE).with_columns(pl.when(role=CANDIDATE).then(sure).otherwise("winnings")).collect()
    version = lake.replace(trials.TABLE, frame, schema=schema.TRIALS)
    night.record(found.model_copy(update={"facts": {**found.facts, "trials version": version}}))
    tuned = night.need("fine_tune")  # the small model may have learnt nothing, and would be called unchanged
    moved = {name: value for name, value in tuned.facts.items() if name != promotions.UNCHANGED}
    night.record(tuned.model_copy(update={"facts": moved}))
    return lake, night.name


@pytest.fixture
def waiting(judged, tmp_path) -> Callable[..., tuple[Lake, Night, Future[Snapshot], FlowRun]]:
    """Starts the promotion on a copy of the lake, and gives the run that is paused."""
    before, name = judged
    lake = Lake(str(tmp_path / "lake"))
    shutil.copytree(before.root, lake.root)
    pool = ThreadPoolExecutor(1)

    def start(hours: float = 1.0):
        manifest = reopen(name, lake).manifest
        asks = {"approval": True, "approval_hours": hours}
        store = {"tracking_uri": f"sqlite:///{Path(before.root).parent}/mlflow.db"}
        settings = manifest.settings.model_copy(
            update={
                "gate": manifest.settings.gate.model_copy(update=asks),
                "registry": manifest.settings.registry.model_copy(update=store),
            }
        )
        changed = manifest.model_copy(update={"settings": settings})
        lake.write_bytes(f"nights/{name}/manifest.json", changed.model_dump_json().encode())
        ending = pool.submit(promote, request(lake, name))
        with get_client(sync_client=True) as client:
            return lake, reopen(name, lake), ending, paused(client)

    yield start
    pool.shutdown()


def request(lake: Lake, name: str) -> NightRequest:
    return NightRequest(night=name, config=DEMO, overrides=[f"lake.root={lake.root}"])


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
    assert reason.startswith("Promoted by Ada (looks right): ")
    assert (facts["promoted"], facts["reason"]) == (True, reason)
    assert promotions.champion(lake).night == night.name
    assert promote(request(lake, night.name)).facts == facts


def test_a_candidate_that_a_person_rejects_is_not_champion(waiting):
    lake, _, ending, run = waiting()
    with get_client(sync_client=True) as client:
        client.resume_flow_run(run.id, run_input={"approve": False, "comment": "titles are garbled", "who": "Bo"})
    assert ending.result(120).facts["promoted"] is False
    action, who, reason = decided(lake)
    assert (action, who) == (promotions.REJECTED, "Bo")
    assert reason.startswith("Rejected by Bo (titles are garbled): ")
    assert promotions.champion(lake) is None


def test_a_candidate_that_nobody_answers_for_is_rejected(waiting):
    lake, _, ending, _ = waiting(hours=0.001)
    assert ending.result(120).facts["promoted"] is False
    action, who, reason = decided(lake)
    assert (action, who) == (promotions.REJECTED, "nobody")
    assert reason.startswith("Rejected by nobody (no answer within 0.001 hours): ")
