"""New events first test the champion and its shadow, then teach; what the gate promotes is refitted on the held-out slices."""

import shutil
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from dealrec_core import schema
from dealrec_core.evaluation import gate
from dealrec_core.lake import Lake, promotions
from dealrec_core.lake.nights import Night, nights, reopen
from dealrec_core.recommenders import bundle
from dealrec_core.samples import calibration, split
from flows.promote import promote
from tasks import trials
from tasks.beside import newest_samples
from tasks.nights import NightRequest
from tasks.stages.refit import _examples
from tasks.tonight import Tonight
from tests.flows.conftest import DEMO


@pytest.fixture
def second(two_nights: Lake) -> Night:
    return nights(two_nights)[1]


def test_the_model_that_is_served_has_learnt_the_held_out_slices_and_the_next_night_tests_it_on_newer_days(
    two_nights, second
):
    first = nights(two_nights)[0]
    judged, served, bounds = first.need("fine_tune"), first.need("refit"), Tonight(first).boundaries
    assert served.path == f"{judged.path}-refit"
    champion = second.manifest.champion
    assert champion is not None
    assert (champion.bundle, champion.trained_through) == (served.path, bounds.end)
    assert Tonight(second).boundaries.test_start >= bounds.end
    assert served.facts["epochs"] == judged.facts["best epoch"]
    assert 0 < served.facts["of the held-out slices"] <= first.need("coreset").rows
    assert served.facts["figures"] == f"those of {judged.path}, the model that the gate judged"
    before, after = (Tonight(first).local_copy(record) for record in (judged, served))
    fits = [calibration.read(bundle.description(folder)["calibration"]) for folder in (before, after)]
    if fits[0] is not None:
        assert fits[1] is not None
        assert fits[0].weights == fits[1].weights
        assert fits[0].added != fits[1].added  # the priors are those of the end of the log


def test_a_refit_learns_newest_samples_that_the_candidate_has_not_learnt_and_as_many_that_it_has(two_nights):
    tonight = Tonight(nights(two_nights)[0])
    learnt_before = newest_samples(tonight, tonight.validation, tonight.coreset)
    newest, again = _examples(tonight)
    assert len(newest) >= len(again) > 0
    assert newest[schema.TIMESTAMP].max() >= tonight.boundaries.test_start
    assert newest.filter(split.kept_back()).is_empty()
    assert newest.join(learnt_before, on=schema.SAMPLE_ID, how="semi").is_empty()
    assert len(again.join(tonight.coreset, on=schema.SAMPLE_ID, how="semi")) == len(
        again
    )  # a first night remembers nothing


def test_an_item_of_the_held_out_slice_alone_is_nowhere_in_what_the_gate_judges(second):
    plain, planted = Tonight(second), Tonight(second)
    future = plain.log.filter(pl.col(schema.TIMESTAMP) >= plain.boundaries.test_start)
    planted.__dict__["log"] = pl.concat([plain.log, future.with_columns(pl.lit("planted").alias(schema.ITEM_ID))])
    for known in (
        planted.known_catalogue.item_ids,
        planted.full_catalogue.item_ids,
        planted.item_counts,
        planted.train_counts,
    ):
        assert "planted" not in known
    for samples in (planted.train, planted.validation, planted.coreset):
        assert samples[schema.TIMESTAMP].max() < planted.boundaries.test_start
    cases = planted.validation_cases
    assert not cases["history"].explode().is_in(["planted"]).any()
    assert not cases["targets"].explode().is_in(["planted"]).any()
    assert planted.cases["targets"].explode().is_in(["planted"]).any()
    assert "planted" in planted.served.full_catalogue.item_ids  # once nothing is held out, it is known


def test_every_night_records_how_champion_and_candidate_did_on_events_that_nothing_had_learnt(two_nights, second):
    bounds = Tonight(second).boundaries
    rows = trials.read(two_nights.scan(trials.TABLE).filter(pl.col(schema.NIGHT) == second.name).collect())
    assert {trial.role for trial in rows} == {"champion", "candidate"}
    for trial in rows:
        assert bounds.test_start <= trial.since < trial.through == bounds.end
        assert (trial.champion, trial.against) == ("1", "champion")
    (candidate,) = (trial for trial in rows if trial.role == "candidate")
    assert candidate.number == 1
    facts = second.need("promotion").facts
    assert (facts["gain"], facts["users"]) == (candidate.gain, candidate.users)
    report = two_nights.read_bytes(f"nights/{second.name}/report.html").decode()
    assert "Recall on new events, before a model learnt them" in report


def test_a_shadow_is_judged_on_new_events_alone_and_its_evidence_is_multiplied(second, monkeypatch):
    tonight = Tonight(second)
    (known, candidate) = sorted(trials.tonights(tonight), key=lambda trial: trial.role, reverse=True)
    assert known.role == "champion"
    moments = tonight.log.filter(pl.col(schema.TIMESTAMP) >= tonight.boundaries.test_start)[schema.TIMESTAMP].sort()
    middle: datetime = moments[len(moments) // 2]
    earlier = {
        "role": "candidate",
        "model": second.earlier[0].name,
        "number": 4,
        "through": middle,
        "winnings": [1.0] * len(gate.STAKES),
    }
    cases = tonight.cases
    nothing = [["none"]] * len(cases)
    lists = {"champion": nothing, "candidate": nothing, "shadow": cases["targets"].to_list()}
    unfinished = candidate.model_copy(
        update={**earlier, "model": "killed before its promotion", "winnings": [2.0] * len(gate.STAKES)}
    )
    monkeypatch.setattr(trials, "_before", lambda _: [unfinished, candidate.model_copy(update=earlier)])
    champion, shadow, fresh = trials.trials(tonight, lists)
    new = tonight.cases_since(middle)
    assert (shadow.role, shadow.model, shadow.number, shadow.since) == ("shadow", second.earlier[0].name, 4, middle)
    assert champion.users == shadow.users == len(new) < len(cases)
    assert shadow.all_users == candidate.all_users + len(new)
    assert fresh.number == 5
    assert shadow.evidence > float(gate.evidence(gate.winnings(pl.Series([0.2] * len(new)).to_numpy()).sum(0)))
    monkeypatch.setattr(Tonight, "cases_since", lambda self, _: cases.head(0))
    kept = trials.trials(tonight, lists)
    assert [trial.role for trial in kept] == ["shadow", "candidate"]
    assert kept[0].winnings == [1.0] * len(gate.STAKES)


def test_a_shadow_that_has_all_it_needs_becomes_champion_and_the_candidate_does_not(town, tmp_path):
    place, summaries = town
    shutil.copytree(f"{place.lake.root}-after-two-nights", tmp_path / "lake")
    shutil.copy(place.config.registry.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    lake = Lake(str(tmp_path / "lake"))
    first, night = (reopen(summary.night, lake) for summary in summaries)
    lake.remove(f"nights/{night.name}/stages/promotion.json")
    rows = lake.scan(trials.TABLE).collect()
    own = rows.filter((pl.col(schema.NIGHT) == night.name) & (pl.col("role") == "candidate"))
    sure = pl.lit([9.0] * len(gate.STAKES))
    shadow = own.with_columns(pl.lit("shadow").alias("role"), pl.lit(first.name).alias("model"), sure.alias("winnings"))
    version = lake.replace(trials.TABLE, pl.concat([rows, shadow]), schema=schema.TRIALS)
    found = night.need("evaluation")
    night.record(found.model_copy(update={"facts": {**found.facts, "trials version": version}}))
    manifest = night.manifest
    store = manifest.settings.registry.model_copy(update={"tracking_uri": f"sqlite:///{Path(tmp_path)}/mlflow.db"})
    changed = manifest.model_copy(update={"settings": manifest.settings.model_copy(update={"registry": store})})
    lake.write_bytes(f"nights/{night.name}/manifest.json", changed.model_dump_json().encode())
    request = NightRequest(night=night.name, config=DEMO, overrides=[f"lake.root={lake.root}"])
    facts = promote(request).facts
    assert (facts["promoted"], facts["winner"], facts["champion"]) == (True, first.name, summaries[0].version)
    last = promotions.decisions(lake).tail(1).row(0, named=True)
    assert (last["action"], last["version"], last["who"]) == ("promoted", summaries[0].version, "gate")
    assert last[schema.REASON].startswith(f"Promoted: the model of night {first.name}, judged again: ")
