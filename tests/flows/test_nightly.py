import sys
from collections import Counter
from dataclasses import asdict
from datetime import date
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from prefect.client.orchestration import get_client

from dealrec_core import influence, schema
from dealrec_core.errors import DataError, NightBusy
from dealrec_core.evaluation import calibrating
from dealrec_core.ingest import duplicates
from dealrec_core.lake import lock, promotions
from dealrec_core.lake import nights as nights
from dealrec_core.recommenders import bundle
from dealrec_core.samples import sequences, split
from dealrec_core.samples.calibration import Weights
from dealrec_core.surrogate import checkpoint
from flows import cli
from flows.follow_registry import follow_registry
from flows.ingest import ingest
from flows.nightly import nightly
from flows.promote import promote
from flows.retrain_surrogate import retrain_surrogate
from flows.roll_back import roll_back
from flows.score_samples import score_samples
from tasks import registry
from tasks.beside import newest_samples
from tasks.calibrated import calibrated
from tasks.report.account import duration
from tasks.report.outcome import outcome
from tasks.report.trace import trace
from tasks.stages.influence import risk_samples
from tasks.tonight import Tonight
from tests.flows.conftest import DEMO, LOG, Town, new_town


def versions(lake) -> dict[str, int]:
    return {table: lake.version(table) for table in nights.TABLES}


def test_every_night_takes_only_what_is_new(town):
    place, summaries = town
    log = place.lake.scan("interactions").collect()
    assert summaries[0].rows_new + summaries[1].rows_new == len(log)
    assert 0 < summaries[1].rows_new < 100
    assert log.select(duplicates.IDENTITY).is_unique().all()


def test_every_run_in_prefect_is_named_by_its_step_and_its_night(town):
    place, summaries = town
    with get_client(sync_client=True) as client:
        names = {run.name for run in client.read_flow_runs()}
    assert f"nightly {place.request(1).day}" in names
    assert f"fine-tune {summaries[1].night}" in names


def test_the_state_of_a_nights_run_is_its_outcome_and_the_message_its_verdict(town):
    place, summaries = town
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_flow_runs() if run.name == f"nightly {place.request(1).day}"]
    states = [run.state for run in runs if run.state is not None]
    assert (summaries[1].outcome.capitalize(), summaries[1].message) in [
        (state.name, state.message) for state in states
    ]
    assert all(state.is_completed() for state in states)


def test_the_books_of_every_file_balance(town):
    place, _ = town
    books = place.lake.scan("files").collect()
    parts = ["earlier", "inserted", "duplicates", "quarantined", "filtered", "postponed"]
    assert books.select(pl.sum_horizontal(parts) == pl.col("rows")).to_series().all()
    assert books.filter(kind="interactions")["quarantined"].to_list() == [3, 3]  # bad rows that the log is made with


def test_bad_rows_are_in_quarantine_with_row_and_reason(town):
    place, _ = town
    reasons = set(place.lake.scan("quarantine").collect()[schema.REASON])
    assert {reason.split(";")[0] for reason in reasons} == {
        "no user id",
        "no item id",
        "unreadable timestamp 'yesterday'",
    }


def test_the_same_night_again_changes_no_table_and_says_so(town):
    place, _ = town
    before = versions(place.lake)
    again = place.night(1)
    assert again.outcome == "done before"
    assert "nothing was ingested and no table changed" in again.message
    assert versions(place.lake) == before


def test_an_empty_day_ends_early_and_says_so(town):
    place, _ = town
    before = versions(place.lake)
    empty = place.night(5)
    assert empty.outcome == "empty"
    assert "nothing new" in empty.message
    assert versions(place.lake) == before


def test_a_day_on_which_all_new_rows_are_of_the_future_is_empty_and_loses_none(prefect_server, town):
    place, _ = town
    later = f"u00001,i00001,5,{int((LOG.start - date(1970, 1, 1)).days + 20) * 86_400}"
    (Path(place.config.sources.root) / "log" / "future.csv").write_text(f"userId,itemId,rating,timestamp\n{later}\n")
    before = place.lake.scan("interactions").collect().height
    assert place.night(6).outcome == "empty"
    assert place.lake.scan("interactions").collect().height == before
    books = place.lake.scan("files").filter(pl.col("path").str.ends_with("future.csv")).collect()
    assert (books["postponed"][0], books["inserted"][0]) == (1, 0)


def test_nothing_of_the_held_out_slice_is_trained_on(town, monkeypatch):
    monkeypatch.setattr("tasks.tonight.FEWEST", 1)
    place, _ = town
    for night in (found for found in nights.nights(place.lake) if found.find("samples")):
        facts = night.need("samples").facts
        samples = place.lake.scan("samples", night.need("samples").version)
        chosen = place.lake.scan("coresets").filter(pl.col(schema.NIGHT) == night.name)
        newest = (
            samples.join(chosen, on=schema.SAMPLE_ID, how="semi")
            .select(pl.col(schema.TIMESTAMP).max())
            .collect()
            .item()
        )
        assert newest.isoformat() < str(facts["validation_start"]) < str(facts["test_start"])
        assert night.need("fine_tune").facts["trained through"] == facts["test_start"]
        learnt = newest_samples(Tonight(night), Tonight(night).validation, Tonight(night).coreset)
        assert 0 < len(learnt) == night.need("fine_tune").facts["of the validation slice"]
        assert learnt[schema.TIMESTAMP].max() < Tonight(night).boundaries.test_start
        assert learnt.filter(split.kept_back()).is_empty()  # epochs are chosen on the others, and so are calibrations
        judged = Tonight(night).validation_cases.explode("targets").rename({"targets": schema.ITEM_ID})
        kept = Tonight(night).validation.filter(split.kept_back())
        assert 0 < len(judged) == len(judged.join(kept, on=[schema.USER_ID, schema.ITEM_ID], how="semi"))


def test_an_item_of_the_held_out_slice_alone_leaves_no_trace_in_a_calibration(town):
    place, _ = town
    night = nights.nights(place.lake)[1]
    plain, planted = Tonight(night), Tonight(night)
    taken = plain.log.filter(pl.col(schema.TIMESTAMP) >= plain.boundaries.test_start)
    assert len(taken) > 0
    future = [taken.with_columns(pl.lit("planted").alias(schema.ITEM_ID))] * 50
    planted.__dict__["log"] = pl.concat([plain.log, *future])
    fits = [calibrated(tonight, tonight.surrogate_recommender()) for tonight in (plain, planted)]
    recorded = night.need("surrogate").facts
    assert fits[0][1] == fits[1][1] == {fact: recorded[fact] for fact in fits[0][1]}
    for moment in (plain.boundaries.validation_start, plain.boundaries.test_start):
        priors = [tonight.priors(moment) for tonight in (plain, planted)]
        assert "planted" not in priors[1].item_ids
        for weights in calibrating.CORNERS:
            np.testing.assert_array_equal(priors[0].added(weights), priors[1].added(weights))


def test_every_recommender_of_a_night_is_served_as_it_was_calibrated(town):
    place, _ = town
    night = nights.nights(place.lake)[1]
    tonight = Tonight(night)
    bundled = bundle.load(tonight.folder("fine_tune"), device=torch.device("cpu")).calibration
    for stage, served in (("fine_tune", bundled), ("surrogate", tonight.surrogate_recommender().calibration)):
        facts = night.need(stage).facts
        weights = Weights() if served is None else served.weights
        names = ("alpha", "beta", "title", "half-life in slices")
        assert [facts[f"calibration {name}"] for name in names] == list(asdict(weights).values())
        assert facts["calibration users"] == len(tonight.validation_cases) > 0


def test_the_second_night_scores_effort_for_new_samples_only(town):
    place, _ = town
    first, second = (found.need("effort").facts for found in nights.nights(place.lake)[:2])
    assert first["kept"] == 0
    assert second["kept"] == first["samples"]
    assert second["computed"] == second["samples"] - first["samples"]


def test_every_sample_can_be_followed_from_its_raw_line_to_the_model(town):
    place, _ = town
    chosen = place.lake.scan("coresets").collect()[schema.SAMPLE_ID][0]
    steps = {step.stage: dict(step.facts) for step in trace(place.lake, chosen)}
    assert list(steps) == ["raw line", "interaction", "sample", "influence", "effort", "coreset", "model"]
    item, user = steps["interaction"]["item_id"], steps["interaction"]["user_id"]
    assert steps["raw line"]["text"].startswith(f"{user},{item},")
    assert item in steps["sample"]["target"]


def test_a_sample_that_does_not_exist_is_an_error_with_the_next_step(town):
    with pytest.raises(DataError, match="no sample 'x' in .*; look for one in the tables samples and coresets"):
        trace(town[0].lake, "x")


def test_the_registered_model_answers_histories_with_catalogue_items(town):
    place, summaries = town
    mlflow.set_tracking_uri(place.config.registry.tracking_uri)
    model = mlflow.pyfunc.load_model("models:/recommender@candidate")
    known = set(place.lake.scan("items").collect()[schema.ITEM_ID])
    histories = [["i00001", "i00002"], ["never heard of"], []]
    answers = model.predict(pd.DataFrame({"history": histories}), params={"k": 5})["item_ids"]
    assert [len(set(items)) for items in answers] == [5, 5, 5]
    assert all(set(items) <= known for items in answers)
    assert summaries[1].version == "2"


def test_a_night_that_stopped_in_the_middle_goes_on_where_it_was(prefect_server, tmp_path):
    place = new_town(tmp_path)
    place.write(0)
    ingest(place.request(0))
    retrain_surrogate(place.request(0))
    (night,) = nights.nights(place.lake)
    before = [place.lake.read_bytes(f"nights/{night.name}/stages/{stage}.json") for stage in ("ingest", "surrogate")]
    with pytest.raises(DataError, match="stage 'evaluation' of night .* has not finished; run `dealrec evaluate"):
        promote(place.request(0))
    assert nightly(place.request(0)).outcome in ("promoted", "rejected", "unchanged")
    after = [place.lake.read_bytes(f"nights/{night.name}/stages/{stage}.json") for stage in ("ingest", "surrogate")]
    assert before == after


def test_a_second_night_at_the_same_time_is_told_who_holds_the_lake(prefect_server, tmp_path):
    place = new_town(tmp_path)
    place.write(0)
    with (
        lock(place.lake, home=str(tmp_path)),
        pytest.raises(NightBusy, match=r"process \d+ holds .*; wait until it ends"),
    ):
        nightly(place.request(0))


def test_there_is_nothing_to_roll_back_to_after_one_champion(town):
    place, _ = town
    with pytest.raises(DataError, match="no earlier champion to go back to"):
        roll_back(config=DEMO, overrides=place.overrides)


def test_a_champion_set_in_mlflow_is_taken_over_and_rolled_back_in_one_step(prefect_server, tmp_path):
    place = new_town(tmp_path)
    for day in (0, 1):
        place.write(day)
        place.night(day)
    mlflow.set_tracking_uri(place.config.registry.tracking_uri)
    client = mlflow.MlflowClient()
    present = promotions.champion(place.lake)
    first, second = ("2", "1") if present is not None and present.version == "1" else ("1", "2")
    for version in (first, second):
        client.set_registered_model_alias("recommender", "champion", version)
        taken = follow_registry(config=DEMO, overrides=place.overrides)
        assert (taken.version, promotions.champion(place.lake).version) == (version, version)
    rows = promotions.decisions(place.lake).filter(action=promotions.SET_BY_HAND)
    assert rows["who"].to_list() == ["MLflow", "MLflow"]
    assert all("the gate's verdict was: " in reason for reason in rows[schema.REASON])
    assert follow_registry(config=DEMO, overrides=place.overrides) is None
    restored = {"candidate": 2, "champion": int(first), "previous": int(first)}
    for _ in range(2):  # a rollback that is sent again puts nothing else in charge
        assert roll_back(config=DEMO, overrides=place.overrides).version == first
        assert client.get_registered_model("recommender").aliases == restored
    client.set_registered_model_alias(
        "recommender", "champion", second
    )  # as if the rollback had been killed before this
    client.set_registered_model_tag("recommender", registry.CHAMPION_TAG, second)
    assert place.night(1).outcome == "done before"
    assert client.get_registered_model("recommender").aliases == restored
    assert promotions.champion(place.lake).version == first


def test_mlflow_has_a_run_per_night_and_one_below_it_per_stage_with_the_tables_it_read(town):
    place, _ = town
    mlflow.set_tracking_uri(place.config.registry.tracking_uri)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("dealrec").experiment_id
    (parent,) = client.search_runs([experiment], f"tags.`dealrec.night` = '{nights.nights(place.lake)[0].name}'")
    first = nights.nights(place.lake)[0]
    facts = first.need("promotion").facts
    assert (parent.data.tags["verdict"], parent.data.tags["champion"]) == (
        promotions.outcome(facts),
        facts["champion"] or "none",
    )
    assert parent.data.metrics["recall"] == first.need("evaluation").facts["candidate recall"]
    below = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert {run.info.run_name for run in below} == set(nights.STAGES)
    tuned = next(run for run in below if run.info.run_name == "fine_tune")
    read = {found.dataset.name: found.dataset.digest for found in tuned.inputs.dataset_inputs}
    assert read["coresets"] == f"version {nights.nights(place.lake)[0].need('coreset').version}"
    assert "report.html" in {file.path for file in client.list_artifacts(parent.info.run_id)}


def test_the_report_is_one_file_without_script_or_address(town):
    place, _ = town
    first, night = nights.nights(place.lake)[:2]
    html = place.lake.read_bytes(f"nights/{night.name}/report.html").decode()
    seconds = [duration(each.need("fine_tune").seconds) for each in (first, night)]
    assert f'data-name="estimated by earlier nights">{seconds[0]}</td><td' in html
    assert f'data-name="measured">{seconds[1]}</td>' in html
    for title in ("What came in", "Surrogate", "Scores", "Coreset", "Cost", "Verdict", "Lineage"):
        assert f"<h2>{title}</h2>" in html
    assert html.index("Outcomes of the last nights") < html.index("<h2>")  # verdict, figures and trend come first
    assert html.count("<dt>") == 5
    verdict = night.need("promotion").facts
    assert f"<dt>{verdict['metric']} of the candidate</dt><dd>{verdict['candidate']:.3f}<" in html  # what decided
    assert html.count("<svg") == html.count('role="img"') >= 8
    assert not any(word in html for word in ("<script", "http://", "https://", "src="))


def test_one_page_tells_several_nights_and_examples_name_titles_and_nobody(
    two_nights, town, capsys, monkeypatch, tmp_path
):
    place, summaries = town
    path = tmp_path / "week.html"
    settings = [*place.overrides, f"lake.root={two_nights.root}"]  # other tests add nights to the town's own lake
    places = [part for setting in settings for part in ("--set", setting)]
    monkeypatch.setattr(sys, "argv", ["dealrec", "report", "--last", "2", "--to", str(path), "--config", DEMO, *places])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, summaries[1].night in capsys.readouterr().out) == (0, True)
    html = path.read_text("utf-8")
    newest = nights.nights(two_nights)
    words = Counter(outcome(night).word for night in newest)
    assert (
        f"<strong>2 nights</strong> {', '.join(f'{count} {word.lower()}' for word, count in words.most_common())}".lower()
        in html.lower()
    )
    assert all(night.name in html for night in newest)
    new_rows = sum(night.need("ingest").rows for night in newest)
    assert f"<dt>new rows</dt><dd>{new_rows:,}" in html
    chosen = (
        two_nights.scan("coresets").filter(pl.col(schema.NIGHT) == newest[-1].name).collect().sort(schema.SCORE).tail(1)
    )
    (best,) = (
        two_nights.scan("samples").filter(pl.col(schema.SAMPLE_ID) == chosen[schema.SAMPLE_ID][0]).collect().to_dicts()
    )
    title = two_nights.scan("items").filter(pl.col(schema.ITEM_ID) == best[schema.ITEM_ID]).collect()[schema.TITLE][0]
    assert title in html
    assert best[schema.USER_ID] not in html


def test_surrogate_and_influence_compute_new_samples_alone_and_influence_at_the_earlier_weights(
    tmp_path, prefect_server, monkeypatch
):
    monkeypatch.setattr("tasks.stages.surrogate.LARGE", 0)
    place = new_town(tmp_path)
    few = Town([*place.overrides, "influence.most_residual=0.9"])
    for day in range(3):
        place.write(day)
        for step in (ingest, retrain_surrogate, score_samples):
            step(few.request(day))
    first, second, third = nights.nights(place.lake)
    facts = second.need("influence").facts
    old, new = (set(Tonight(each).train[schema.SAMPLE_ID]) for each in (first, second))
    assert first.need("influence").facts["reused"] == 0
    assert (facts["scored"], facts["reused"]) == (len(new - old), len(new & old))
    assert facts["reused"] > facts["scored"] > 0
    assert str(facts["why"]).startswith("the earlier q is used again")
    learnt = [night.need("surrogate").facts["learns"] for night in (first, second, third)]
    # In two nights more than a tenth is new.
    assert learnt == ["all samples", f"{len(new - old)} new samples", "all samples"]
    again = third.need("influence").facts
    assert (again["reused"], again["why"]) == (0, "all computed: the surrogate is of a new generation")
    # The same figures from all of tonight's samples, at the weights that the first night scored with.
    train, risk = Tonight(second).train, risk_samples(Tonight(second))
    folder = place.lake.local_path(str(second.need("influence").path))
    model, item_ids, _ = checkpoint.load(folder)
    left, _ = influence.carried.load(folder)
    problem = influence.operators.problem(
        model, left.loss, config=influence.InfluenceConfig(batch_tokens=1000), device="cpu"
    )
    v = influence.operators.gradient(problem, sequences.encode(risk, item_ids))
    torch.testing.assert_close(left.v, v, rtol=1e-3, atol=1e-6)
    expected = influence.operators.directional(problem, sequences.encode(train, item_ids), left.q) / len(train)
    written = place.lake.scan("influences").filter(pl.col(schema.NIGHT) == second.name).collect()
    found = train.select(schema.SAMPLE_ID).join(written, on=schema.SAMPLE_ID, maintain_order="left")[schema.INFLUENCE]
    np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_a_night_scores_by_dcrec_and_the_next_one_knows_its_graphs_are_others(tmp_path, prefect_server):
    place = new_town(tmp_path)
    graphs = Town([*place.overrides, "surrogate.network=dcrec"])
    for day in range(2):
        place.write(day)
        for step in (ingest, retrain_surrogate, score_samples):
            step(graphs.request(day))
    first, second = nights.nights(place.lake)
    for night in (first, second):
        train = Tonight(night).train
        scores = place.lake.scan("influences").filter(pl.col(schema.NIGHT) == night.name).collect()
        assert set(scores[schema.SAMPLE_ID]) == set(train[schema.SAMPLE_ID])
        assert scores[schema.INFLUENCE].is_finite().all()
        assert night.need("influence").facts["residual"] <= night.config.influence.tolerance
    assert second.need("surrogate").facts["started from"] == first.need("surrogate").path
    assert second.need("influence").facts["why"] == "all computed: the network is another"
