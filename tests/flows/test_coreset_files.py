"""What a night leaves for others: files, an event, and a comparison of its coreset with random ones."""

import hashlib
import json
import math
from typing import Any

import polars as pl
import pytest
from prefect.logging import disable_run_logger

from dealrec_core import coreset
from dealrec_core.coreset import emission
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.errors import DataError
from dealrec_core.evaluation import proxy
from dealrec_core.evaluation.comparison import Difference
from dealrec_core.lake import nights
from dealrec_core.language import language_model
from dealrec_core.recommenders.features import features
from dealrec_core.samples import split
from flows.nightly import nightly
from tasks import events
from tasks.stages import coreset as task
from tasks.stages import effort as effort_stage
from tasks.stages.influence import risk_samples
from tasks.tonight import Tonight
from tests.flows.conftest import new_town


def newest(place):
    return nights.nights(place.lake)[-1]


def test_a_night_emits_its_coreset_with_the_hash_of_every_file(town):
    place, summaries = town
    night = newest(place)
    recorded = night.need("coreset")
    assert recorded.path == f"emitted/coresets/{night.name}"
    manifest = json.loads(place.lake.read_bytes(f"{recorded.path}/{emission.MANIFEST}"))
    for name, wanted in manifest["files"].items():
        assert hashlib.sha256(place.lake.read_bytes(f"{recorded.path}/{name}")).hexdigest() == wanted
    assert manifest["tables"]["samples"] == night.need("samples").version
    assert manifest["models"]["surrogate"] == night.need("surrogate").sha256
    rows = place.lake.read_bytes(f"{recorded.path}/{emission.ALPACA}").decode().splitlines()
    assert len(rows) == manifest["chosen"] == summaries[-1].coreset


def test_the_same_night_emits_the_same_bytes_and_announces_them(town, monkeypatch):
    place, _ = town
    night = newest(place)
    recorded = night.need("coreset")
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda event, **told: sent.append({"event": event, **told}))
    with disable_run_logger():
        again = task.select_coreset.fn.__wrapped__(Tonight(night))
    assert again.sha256 == recorded.sha256
    payload = sent[0]["payload"]
    assert sent[0]["event"] == "coreset.emitted"
    assert (payload["night"], payload["path"], payload["count"]) == (night.name, recorded.path, recorded.rows)
    assert payload["hash"].startswith(str(recorded.facts["content"]))


def test_the_summary_says_whether_the_coreset_beats_random(town):
    _, summaries = town
    assert summaries[-1].against_random.split(":")[0] in ("better", "worse", "no difference shown")


@pytest.mark.parametrize(
    ("method", "word", "used"),
    [
        ("auto", "better", "targeted"),
        ("auto", "no difference shown", "random"),
        ("auto", "worse", "random"),
        ("targeted", "worse", "targeted"),
        ("random", "worse", "random"),
    ],
)
def test_auto_learns_a_random_coreset_unless_the_method_is_better(town, monkeypatch, method, word, used):
    asked: list[dict[str, Any]] = []
    gap = Difference(mean=0.1, low=0.05, high=0.2, p=0.01, above=1.0)

    def compare(coreset, pool, judges, *_, beside, **__):
        asked.append({"coreset": coreset, "judges": judges, "beside": beside})
        return proxy.Comparison(word, 0.2, 0.1, gap, 3)

    monkeypatch.setattr(proxy, "compare", compare)
    tonight = Tonight(with_settings(newest(town[0]), method=method))
    with disable_run_logger():
        decided, selection, facts = task._decided(tonight)
    assert decided == used
    assert selection.frame["reason"].str.starts_with(used).all()
    if method == "random":
        assert not asked
        assert not facts
        return
    assert facts["word"] == word
    assert str(facts["comparison"]).endswith("the night learns a random coreset") == (used == "random")
    assert len(asked[0]["coreset"]) == len(selection.frame)
    assert asked[0]["judges"].filter(~split.kept_back()).is_empty()
    assert len(asked[0]["beside"]) > 0
    assert selection.frame["influence"].null_count() == 0  # it was computed, so that trace and report can show it


def test_nothing_aims_at_the_samples_that_judge(town):
    tonight = Tonight(with_settings(newest(town[0]), method="auto"))
    inputs = task._inputs(tonight)
    for samples in (inputs.recent, inputs.aims, risk_samples(tonight)):
        assert len(samples) > 0
        assert samples.filter(split.kept_back()).is_empty()


def with_settings(night, **changes):
    config = night.config.model_copy(update={"coreset": night.config.coreset.model_copy(update=changes)})
    return nights.Night(night.manifest.model_copy(update={"settings": config}), night.lake)


@pytest.mark.parametrize("method", sorted(NEEDS))
def test_every_method_has_its_features_in_a_night(town, method):
    tonight = Tonight(with_settings(newest(town[0]), method=method))
    asked = task._asked(tonight, set(NEEDS[method]))
    pool, aims = features(asked, task._inputs(tonight))
    families = {name.split(".")[0] if "." in name else name for name in pool}
    assert families == {"gradient" if name == "layer_gradients" else name for name in asked}
    assert {len(values) for values in pool.values()} <= {len(tonight.train)}
    assert all(len(values) > 0 for values in aims.values())


def test_a_budget_of_tokens_is_spent_and_never_exceeded(town):
    tonight = Tonight(with_settings(newest(town[0]), tokens=500))
    needs = set(NEEDS["dealrec"])
    pool, _ = features(task._asked(tonight, needs), task._inputs(tonight))
    scores = task._scores(tonight, needs).with_columns(pl.Series("tokens", pool["tokens"]))
    budget = task._token_budget(tonight)
    selection = coreset.select(scores, tonight.config.algorithms.coreset, seed=0, token_budget=budget)
    spent = selection.report["tokens of an epoch"]
    assert 0 < spent <= 500  # that one sample more would not fit is tested beside `select`


def test_minutes_become_tokens_by_speed_epochs_and_memory(town):
    tonight = Tonight(with_settings(newest(town[0]), gpu_minutes=2.0, tokens_per_second=50.0))
    passes = 2 * tonight.config.fine_tune.epochs  # as many samples of the first night are learnt again
    assert task._token_budget(tonight) == 2 * 60 * 50 // passes
    tuned = nights.nights(town[0].lake)[0].need("fine_tune")
    measured = Tonight(with_settings(newest(town[0]), gpu_minutes=2.0))
    assert task._token_budget(measured) == int(120 * tuned.facts["tokens"] / tuned.seconds / passes)


def test_minutes_without_a_measured_speed_are_an_error():
    with pytest.raises(DataError, match="set coreset.tokens_per_second"):
        task._measured_speed([])


@pytest.mark.parametrize("method", ["less", "rds", "tf-dcon", "goracs"])
def test_methods_that_ask_a_model_run_with_tiger_too(tiger_town, method):
    tonight = Tonight(with_settings(newest(tiger_town), method=method))
    needs = set(NEEDS[method])
    pool, aims = features(task._asked(tonight, needs), task._inputs(tonight))
    scores = task.with_features(task._scores(tonight, needs), pool)
    selection = coreset.select(scores, tonight.config.algorithms.coreset, seed=0, reference=aims)
    assert len(selection.frame) == selection.report["chosen"] > 0


def test_effort_is_scored_of_the_samples_of_the_highest_influence_and_only_they_are_chosen(town, monkeypatch):
    tonight = Tonight(newest(town[0]))
    settings = tonight.config.model_copy(update={"effort": tonight.config.effort.model_copy(update={"share": 0.25})})
    quarter = Tonight(nights.Night(tonight.night.manifest.model_copy(update={"settings": settings}), tonight.lake))
    train, choosable = tonight.train, effort_stage.choosable(quarter)
    assert len(choosable) == math.ceil(len(train) / 4)
    of = tonight.rows("influence")
    chosen = of.join(choosable, on="sample_id", how="semi")["influence"]
    others = of.join(choosable, on="sample_id", how="anti")["influence"]
    assert chosen.min() >= others.max()
    assert effort_stage.choosable(tonight).equals(train)
    random = Tonight(with_settings(quarter.night, method="random"))
    assert effort_stage.choosable(random).equals(train)  # no effort, nothing to save
    asked: list[pl.DataFrame] = []
    monkeypatch.setattr(coreset, "select", lambda samples, *_, **__: asked.append(samples) or stop())
    with pytest.raises(StopIteration):
        task.select_coreset.fn.__wrapped__(quarter)
    assert set(asked[0]["sample_id"]) == set(choosable["sample_id"])
    assert asked[0]["effort"].null_count() == 0


def stop():
    raise StopIteration


def test_a_random_coreset_asks_no_model_and_scores_nothing(tmp_path, prefect_server, monkeypatch):
    place = new_town(tmp_path)
    place.write(0)
    monkeypatch.setattr(language_model, "load", lambda *_, **__: pytest.fail("the language model was loaded"))
    steps = ["ingest", "retrain-surrogate", "score-samples", "select-coreset"]
    nightly(place.request(0, "coreset.method=random").model_copy(update={"only": steps}))
    night = newest(place)
    assert night.need("coreset").rows > 0
    assert night.find("influence") is None
    assert night.find("effort") is None
