import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import scale
from dealrec_core import settings
from dealrec_core.coreset.methods import NEEDS
from dealrec_core.lake.nights import Snapshot
from tasks import forecast
from tasks.forecast import forecast as foretold

RESULTS = json.loads(Path("benchmarks/results/scale.json").read_text("utf-8"))
DEMO = "deployments/examples/demo.toml"
TINY = {
    "ingest": (1.0, 1.0, 10.0),
    "surrogate": (1.0, 1.0, 32.0),
    "base_model": (6.0, 6.0, 6.0),
    "effort": (1.0, 8.0, 64.0),
    "fine_tune": (4.0, 4.0, 40.0),
}


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(forecast, "MEASURED_S", TINY)
    monkeypatch.setattr(forecast, "MEASURED_ROWS", (10_000, 100_000, 1_000_000))


def config(*overrides: str) -> settings.Config:
    return settings.load(DEMO, ["coreset.least=1024", *overrides])


def night(name: str, seconds: dict[str, float], *, rows: int = 100, finished: bool = True) -> SimpleNamespace:
    records = {stage: Snapshot(stage=stage, seconds=value, rows=rows) for stage, value in seconds.items()}
    if finished:
        records["promotion"] = Snapshot(stage="promotion", seconds=1.0)
    return SimpleNamespace(name=name, find=records.get, snapshots=lambda: list(records.values()))


def test_the_page_shows_what_the_benchmark_measured():
    assert scale.table(RESULTS) in Path("docs/scale.md").read_text("utf-8")


def test_the_table_of_the_forecast_is_what_the_benchmark_measured():
    sizes = RESULTS["sizes"]
    assert tuple(sorted(map(int, sizes))) == forecast.MEASURED_ROWS
    measured = [sizes[str(rows)]["first night"]["stages"] for rows in forecast.MEASURED_ROWS]
    for stage, seconds in forecast.MEASURED_S.items():
        assert seconds == pytest.approx([forecast_seconds(stages, stage) for stages in measured if stage in stages]), (
            stage
        )
    left_out = {
        "refit",
        "proxy",
    }  # a refit follows only where the gate promotes; what proxy did is a part of coreset now
    assert set(measured[0]) - set(forecast.MEASURED_S) == left_out


def forecast_seconds(stages: dict, name: str) -> float:
    stage = stages[name]
    facts = stage["facts"]
    all_samples = (facts["samples"] + facts["not scored"]) / facts["computed"] if "not scored" in facts else 1
    comparison = stages["proxy"]["CPU seconds"] if name == "coreset" else 0
    return round(stage["CPU seconds"] * all_samples + comparison, 1)


def test_the_methods_with_influence_and_effort_are_those_that_need_them():
    nightly = {name: needs for name, needs in NEEDS.items() if name != "dealrec-released"}
    for stage, methods in forecast.METHODS.items():
        assert {name for name, needs in nightly.items() if stage in needs} == methods


def test_the_first_night_is_told_from_measured_ones_between_and_beyond_their_sizes(table):
    between = foretold(config("coreset.method=dealrec"), [], 316_228).seconds
    assert between["ingest"] == pytest.approx(10**0.5, rel=1e-4)  # half way from 1 to 10
    beyond = foretold(config("coreset.method=dealrec"), [], 10_000_000)
    assert beyond.seconds["effort"] == pytest.approx(512)  # eight times as much again
    assert beyond.seconds["surrogate"] == pytest.approx(
        320
    )  # not steeper than the rows, where its softmax has its limit
    assert (beyond.extrapolated, beyond.by, beyond.unknown) == (True, [], [])
    assert not foretold(config("coreset.method=dealrec"), [], 100_000).extrapolated


def test_the_first_night_is_in_proportion_to_what_its_settings_ask_for(table):
    ahead = foretold(config("language_model.steps=600", "fine_tune.epochs=6", "coreset.method=random"), [], 10_000)
    assert ahead.seconds == {"ingest": 1.0, "surrogate": 1.0, "base_model": 12.0, "fine_tune": 8.0}  # and no effort
    assert ahead.extrapolated


def test_a_model_from_outside_is_not_known_before_the_first_night(table):
    ahead = foretold(config("language_model.base_model=some/model", "coreset.method=random"), [], 10_000)
    assert (ahead.seconds, ahead.unknown) == ({"ingest": 1.0, "surrogate": 1.0}, ["base_model", "fine_tune"])


def test_later_nights_are_told_by_the_median_of_the_last_and_by_tonights_rows(table):
    earlier = [
        night("first", {"ingest": 9.0, "fine_tune": 90.0}),
        night("a", {"ingest": 2.0, "fine_tune": 20.0}),
        night("b", {"ingest": 2.0, "fine_tune": 40.0}),
        night("c", {"ingest": 2.0, "fine_tune": 30.0}),
        night("open", {"ingest": 50.0}, finished=False),
    ]
    ahead = foretold(config(), earlier, 100)
    assert ahead.by == ["a", "b", "c"]
    assert (ahead.seconds["ingest"], ahead.seconds["fine_tune"]) == (2.0, 30.0)
    assert foretold(config(), earlier, 1_000_000).seconds["ingest"] == pytest.approx(20.0)  # measured: 1 s against 10 s
