from datetime import date
from typing import get_type_hints

import pytest
from pydantic import ValidationError

from dealrec_core.settings import Config
from tasks import nights
from tasks.nights import CHANGEABLE, Changes, NightRequest, one_night

DEMO = "deployments/examples/demo.toml"


def test_what_is_typed_into_the_form_wins_over_the_file_and_lines_win_over_the_form():
    request = NightRequest(config=DEMO, change={"coreset_ratio": 0.2, "run_seed": 3}, overrides=["run.seed=4"])
    assert (request.settings().coreset.ratio, request.settings().run.seed) == (0.2, 4)


def test_what_is_left_empty_is_not_sent():
    assert NightRequest().model_dump(mode="json")["change"] == {}
    assert "default" not in Changes.model_json_schema()["properties"]["coreset_ratio"]


def test_the_form_has_the_bounds_of_the_settings():
    shown = NightRequest.model_json_schema()["$defs"]["Changes"]["properties"]["coreset_ratio"]
    assert (shown["type"], shown["exclusiveMinimum"], shown["maximum"]) == ("number", 0, 1)
    with pytest.raises(ValidationError, match="less than or equal to 1"):
        NightRequest(change={"coreset_ratio": 3})


def test_no_field_of_the_form_is_a_box_that_is_sent_as_no_when_nobody_touched_it():
    for key in CHANGEABLE:
        section, name = key.split(".")
        assert get_type_hints(Config.model_fields[section].annotation)[name] is not bool


def test_only_runs_what_was_asked_for():
    assert NightRequest().wants("promote")
    assert not NightRequest(only=["ingest"]).wants("promote")
    with pytest.raises(ValidationError, match="retrain-surrogate"):
        NightRequest(only=["everything"])


def test_a_run_is_named_by_the_night_it_means():
    assert str(NightRequest(day="2026-01-03")) == "2026-01-03"
    assert str(NightRequest(day="2026-01-03", night="2026-01-02-3fa9c1")) == "2026-01-02-3fa9c1"
    assert str(NightRequest(resume=True)) == "the newest unfinished night"


@pytest.mark.parametrize("how", ["again", "by name", "resume"])
def test_a_night_is_continued_on_what_is_there_now_with_the_settings_it_was_opened_with(tmp_path, how, monkeypatch):
    monkeypatch.setattr(nights, "poll_registry", lambda *_: None)
    places = [f"run.home={tmp_path}", f"lake.root={tmp_path}/lake", f"sources.root={tmp_path}"]
    with one_night(NightRequest(day=date(2026, 1, 1), config=DEMO, overrides=[*places, "run.device=cpu"])) as night:
        opened = night.config
    moved = [*places, "run.engine=ray", "run.ray_address=other:6379"]
    requests = {
        "again": NightRequest(day=date(2026, 1, 1), config=DEMO, overrides=moved),
        "by name": NightRequest(night=night.name, config=DEMO, overrides=[*moved, "coreset.ratio=0.5"]),
        "resume": NightRequest(resume=True, config=DEMO, overrides=[*moved, "coreset.ratio=0.5"]),
    }
    with one_night(requests[how]) as continued:
        assert continued.name == night.name
        run = continued.config.run
        assert (run.engine, run.ray_address, run.device) == ("ray", "other:6379", "auto")
        assert continued.config.model_copy(update={"run": opened.run}) == opened


def test_the_summary_names_the_best_cheap_recommender_that_ranks_better():
    recalls = {"candidate": 0.2, "champion": 0.5, "surrogate": 0.1, "popularity": 0.3, "item knn": 0.25}
    said = nights._cheaper_leads(recalls)
    assert said == " WARNING: popularity ranks better than the candidate, recall 0.3000 against 0.2000"
    assert "the surrogate ranks better" in nights._cheaper_leads({**recalls, "surrogate": 0.4})
    assert nights._cheaper_leads({**recalls, "candidate": 0.4}) == ""
