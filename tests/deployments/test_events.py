"""Automations on the real servers: one stage's event starts the next, and what goes wrong is posted to the alarm address."""

import csv
import time
from pathlib import Path

import mlflow
import pytest
from markdown_it import MarkdownIt
from mlflow import MlflowClient

from benchmarks import town as towns
from dealrec_core.coreset import emission
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import nights
from dealrec_core.language.prompts import clean
from tests.hostile import CONTROL_TOKENS, IDS, TITLES, Tags

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
DEMO = "deployments/examples/demo.toml"
SCORING = ["ingest", "retrain-surrogate", "score-samples"]
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def started_by_an_automation(site, name: str, *, seconds: int = 90) -> dict:
    """The run of a deployment that an automation made."""
    deployment = site.api(f"/deployments/name/{name}/{name}")["id"]
    for _ in range(seconds):
        for run in site.api("/flow_runs/filter", {"flow_runs": {"deployment_id": {"any_": [deployment]}}}):
            if run["created_by"] and run["created_by"]["type"] == "AUTOMATION":
                return run
        time.sleep(1)
    raise AssertionError(f"no automation started {name}")


def write_hostile_log(folder: Path) -> None:
    """A log in which users with hostile ids took items with hostile ids and titles, in a file with such a name."""
    towns.write_day(folder, 0)
    titles = {f"i9{number:03}": title for number, title in enumerate(TITLES)} | dict(zip(IDS, TITLES, strict=False))
    with (folder / "data" / "items" / "hostile.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["itemId", "title", "categories"], *([*pair, ""] for pair in titles.items())])
    start = 1_766_000_000  # long enough before the newest slices, which are held out
    events = [[IDS[number // 4 % len(IDS)], item, 5, start + number * 60] for number, item in enumerate(titles)]
    with (folder / "data" / "log" / "<b>$(id).csv").open("w", newline="") as file:
        csv.writer(file).writerows([["userId", "itemId", "rating", "timestamp"], *events, ["[/]", "x", 5, "\x1b[31m"]])


def assert_nothing_hostile_acts(site, night) -> None:
    """Ids reached the tables as they came; in what a person or an outside trainer reads of the night they are inert."""
    assert set(IDS) <= set(night.lake.scan("interactions").collect()["item_id"])
    artifacts = [
        each["data"] for each in site.api("/artifacts/filter", {"limit": 200}) if isinstance(each["data"], str)
    ]
    reports = [path.read_text("utf-8") for path in site.folder.rglob("report.html")]
    assert len(artifacts) > 8
    assert reports
    for text in [*map(MarkdownIt("commonmark").enable("table").render, artifacts), *reports]:
        tags = Tags()
        tags.feed(text)
        assert not tags.tags & {"script", "img", "iframe", "b", "form", "input", "object", "base"}
        assert [line for line in tags.text.split("\n") if not line.isprintable()] == []
    logs = [each["message"] for each in site.api("/logs/filter", {"sort": "TIMESTAMP_DESC", "limit": 200})]
    assert len(logs) > 50
    assert [line for text in logs for line in text.split("\n") if not line.isprintable()] == []
    emitted = [
        night.lake.read_bytes(f"emitted/coresets/{night.name}/{name}").decode()
        for name in (emission.ALPACA, emission.CHAT, emission.CARD)
    ]
    titles = [clean(title, night.config.recommender.prompt) for title in TITLES]
    assert [title for title in titles if len(title) > 8 and title in emitted[0]]
    assert [token for text in emitted for token in CONTROL_TOKENS if token in text] == []


def test_an_emitted_coreset_starts_fine_tuning_and_a_candidate_its_evaluation_and_the_gate(site):
    """The night reads hostile ids and titles, and what it shows of them is inert."""
    elsewhere = f"{site.folder}/chain/lake"
    write_hostile_log(site.folder / "chain")
    overrides = [
        f"lake.root={elsewhere}",
        f"sources.root={site.folder}/chain/data",
        "sources.max_bad_fraction=1",
        "coreset.ratio=0.3",
    ]
    request = {"config": DEMO, "overrides": overrides}
    run = site.start("nightly", {"request": {**request, "only": SCORING}})
    assert site.wait(run["id"], ENDED)["state"]["type"] == "COMPLETED"
    (night,) = nights(Lake(elsewhere))
    chosen = site.start("select-coreset", {"request": {**request, "night": night.name}})
    assert site.wait(chosen["id"], ENDED)["state"]["type"] == "COMPLETED"

    named = {"night": night.name, "overrides": [f"lake.root={elsewhere}"]}
    tuning = started_by_an_automation(site, "fine-tune")
    assert tuning["parameters"] == {"request": named}
    assert site.wait(tuning["id"], ENDED)["state"]["type"] == "COMPLETED"
    gate = started_by_an_automation(site, "nightly")
    assert gate["parameters"] == {"request": {**named, "only": ["evaluate-candidate", "promote"]}}
    assert site.wait(gate["id"], ENDED)["state"]["type"] == "COMPLETED"
    assert night.finished
    assert promotions.decisions(night.lake)["night"].to_list() == [night.name]
    assert site.leaks() == []
    assert_nothing_hostile_acts(site, night)


def test_too_many_bad_rows_post_an_alarm_and_the_night_goes_on(site):
    overrides = [f"lake.root={site.folder}/bad/lake", "run.quarantine_alert=0.0001"]
    run = site.start("ingest", {"request": {"config": DEMO, "overrides": overrides}})
    assert site.wait(run["id"], ENDED)["state"]["type"] == "COMPLETED"
    assert "rows are in quarantine" in site.heard("quarantine")["message"]


def test_old_runs_and_versions_are_deleted_from_the_server_but_none_with_an_alias(site, monkeypatch):
    """A registry of its own on the same server; `keep_days` 0 makes everything in it old."""
    for name, value in site.login.items():
        monkeypatch.setenv(name, value)
    mlflow.set_tracking_uri(site.mlflow)
    client = MlflowClient(site.mlflow)
    experiment = client.create_experiment("old")
    client.create_registered_model("old")
    client.create_registered_model("old-surrogate")
    nights_run = [client.create_run(experiment, tags={"dealrec.night": f"night {number}"}) for number in range(3)]
    below = [client.create_run(experiment, tags={"mlflow.parentRunId": run.info.run_id}) for run in nights_run]
    for run in nights_run:
        client.create_model_version("old", f"{run.info.artifact_uri}/model", run_id=run.info.run_id)
        client.create_model_version("old-surrogate", f"{run.info.artifact_uri}/model", run_id=run.info.run_id)
    client.set_registered_model_alias("old", "champion", "2")
    names = ["registry.experiment=old", "registry.model=old", "registry.surrogate=old-surrogate"]
    run = site.start("retain", {"keep_days": 0, "config": DEMO, "overrides": names})
    assert site.wait(run["id"], ENDED)["state"]["type"] == "COMPLETED"
    for name in ("old", "old-surrogate"):  # the champion's surrogate stays with it
        assert [version.version for version in client.search_model_versions(f"name = '{name}'")] == ["2"]
    left = {found.info.run_id for found in client.search_runs([experiment])}
    assert left == {nights_run[1].info.run_id, below[1].info.run_id}
    (page,) = site.api("/artifacts/latest/filter", {"artifacts": {"key": {"any_": ["retain"]}}})
    assert page["data"].startswith("4 versions and 4 runs from before ")
    assert "1 old nights are kept whole" in page["data"]
