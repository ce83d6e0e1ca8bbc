import json
import sys
from datetime import date

import pytest
from prefect.settings import get_current_settings, temporary_settings

from dealrec_core.ingest import interactions
from dealrec_core.lake import Lake, lock
from dealrec_core.lake.nights import reopen
from dealrec_core.settings.sources import InteractionSource, SourcesConfig
from flows import cli
from flows.own_server import own_server
from tests.dealrec_core.study.conftest import write_released
from tests.flows.conftest import DEMO


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["dealrec", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def error_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error:")]


def test_a_missing_settings_file_is_one_line(capsys, monkeypatch):
    code, out, err = run(capsys, monkeypatch, "nightly", "--config", "nowhere.toml")
    assert (code, out) == (1, "")
    assert err == "error: no settings file 'nowhere.toml'; name one with --config; `dealrec init` writes one\n"


def test_the_server_that_prefect_starts_for_a_command_asks_for_a_login_of_this_process():
    logins = []
    for _ in range(2):
        with temporary_settings(own_server()):
            passed_on = get_current_settings().to_environment_variables(exclude_unset=True)  # to that server
        assert passed_on["PREFECT_SERVER_API_AUTH_STRING"] == passed_on["PREFECT_API_AUTH_STRING"]
        assert passed_on["PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS"] == ""
        logins.append(passed_on["PREFECT_API_AUTH_STRING"])
    assert len(set(logins)) == 2


def test_a_misspelt_setting_is_one_line_with_the_nearest_name(capsys, monkeypatch):
    code, _, err = run(capsys, monkeypatch, "nightly", "--config", DEMO, "--set", "coreset.ratoi=0.1")
    assert code == 1
    assert err.count("\n") == 1
    assert "unknown setting 'coreset.ratoi'; did you mean 'ratio'?" in err


def test_a_missing_folder_is_one_line_and_nothing_is_lost(capsys, monkeypatch, tmp_path, prefect_server):
    places = ["--set", f"sources.root={tmp_path}/nowhere", "--set", f"lake.root={tmp_path}/lake"]
    code, _, err = run(capsys, monkeypatch, "nightly", "--config", DEMO, *places)
    assert code == 1
    assert error_lines(err) == [f"error: no folder or bucket '{tmp_path}/nowhere'; set sources.root"]
    assert "Traceback" not in err


def test_a_folder_without_matching_files_names_the_patterns(capsys, monkeypatch, tmp_path, prefect_server):
    places = ["--set", f"sources.root={tmp_path}", "--set", f"lake.root={tmp_path}/lake"]
    code, _, err = run(capsys, monkeypatch, "ingest", "--config", DEMO, *places)
    assert code == 1
    assert error_lines(err) == [f"error: no file in '{tmp_path}' matches ['log/*']; set sources.interactions.files"]


def test_an_unreadable_bucket_is_one_line(capsys, monkeypatch, tmp_path, prefect_server):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    places = ["--set", "sources.root=s3://no-such-bucket/logs", "--set", f"lake.root={tmp_path}/lake"]
    code, _, err = run(capsys, monkeypatch, "ingest", "--config", DEMO, *places)
    assert code == 1
    (line,) = error_lines(err)
    assert line.startswith("error: cannot read 's3://no-such-bucket/logs': ")
    assert line.endswith("; check sources.root and the AWS_* variables")


def test_status_lists_the_nights_and_the_champion_as_json(capsys, monkeypatch, town):
    place, summaries = town
    sets = [part for override in place.overrides for part in ("--set", override)]
    code, out, _ = run(capsys, monkeypatch, "status", "--json", "--config", DEMO, *sets)
    found = json.loads(out)
    assert code == 0
    assert [night["night"] for night in found["nights"][:2]] == [summary.night for summary in summaries]
    assert found["tables"]["promotions"] >= 1


def test_trace_prints_every_stage(capsys, monkeypatch, town):
    place, _ = town
    sample = place.lake.scan("coresets").collect()["sample_id"][0]
    sets = [part for override in place.overrides for part in ("--set", override)]
    code, out, _ = run(capsys, monkeypatch, "trace", sample, "--config", DEMO, *sets)
    assert code == 0
    for stage in ("raw line", "interaction", "sample", "influence", "effort", "coreset", "model"):
        assert f"\n{stage}\n" in f"\n{out}"


def test_the_plan_names_files_that_no_night_has_taken(capsys, monkeypatch, tmp_path):
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "new.csv").write_text("userId,itemId,rating,timestamp\n" * 300)
    places = ["--set", f"sources.root={tmp_path}", "--set", f"lake.root={tmp_path}/lake"]
    code, out, _ = run(capsys, monkeypatch, "plan", "--config", DEMO, *places)
    assert code == 0
    assert "/log/new.csv\n1 file with rows that no night has ingested, about 300 rows\ntonight will take about " in out
    assert ", estimated from nights on other logs, " in out
    assert "\nthis estimate is extrapolated, because " in out  # the measured logs begin at 10,000 rows
    sets = [*places, "--set", "language_model.base_model=some/model"]
    code, out, _ = run(capsys, monkeypatch, "plan", "--config", DEMO, *sets)
    assert (code, out.splitlines()[-1].split(": ")[1]) == (0, "base model, fine tune, evaluation")


def test_the_plan_says_how_long_each_step_takes_by_the_nights_before(capsys, monkeypatch, town):
    place, summaries = town
    sets = [part for override in place.overrides for part in ("--set", override)]
    code, out, _ = run(capsys, monkeypatch, "plan", "--config", DEMO, *sets)
    found = json.loads(run(capsys, monkeypatch, "plan", "--config", DEMO, "--json", *sets)[1])
    assert code == 0
    assert "tonight will take about " in out
    assert list(found["seconds"]) == ["ingest", "retrain", "score", "select", "fine-tune", "evaluate", "promote"]
    second = reopen(summaries[1].night, place.lake)
    if len(found["by"]) == 1:  # another test may have added a night
        assert found["by"] == [second.name]
        assert found["seconds"]["fine-tune"] == second.need("fine_tune").seconds


def test_recommendations_of_champion_surrogate_and_popularity_stand_side_by_side(capsys, monkeypatch, town):
    place, _ = town
    sets = [part for override in place.overrides for part in ("--set", override)]
    log = place.lake.scan("interactions").collect()
    user = min(log["user_id"])
    code, out, _ = run(capsys, monkeypatch, "recommend", user, "--count", "3", "--config", DEMO, *sets, "--json")
    found = json.loads(out)
    titles = set(place.lake.scan("items").collect()["title"])
    assert code == 0
    assert list(found["lists"]) == ["champion", "surrogate", "recent popularity"]
    for shown in found["lists"].values():
        assert (len(shown), set(shown) - titles) == (
            3,
            set(),
        )  # what the user took may come again (evaluation.mask_seen)
    item = min(log["item_id"])
    code, out, _ = run(capsys, monkeypatch, "recommend", "--history", item, "--config", DEMO, *sets)
    assert (code, out.splitlines()[0].startswith("history: ")) == (0, True)
    for wrong, error in (
        (["nobody"], "user 'nobody' has no interaction"),
        (["--history", "x"], "the catalogue has no item 'x'"),
    ):
        code, _, err = run(capsys, monkeypatch, "recommend", *wrong, "--config", DEMO, *sets)
        assert (code, error in err) == (1, True)


def test_the_doctor_finds_a_healthy_lake_healthy_and_a_missing_folder_bad(capsys, monkeypatch, town, tmp_path):
    place, _ = town
    sets = [part for override in place.overrides for part in ("--set", override)]
    code, out, _ = run(capsys, monkeypatch, "doctor", "--config", DEMO, *sets)
    assert code == 0
    looks = ("interactions:", "items:", "lake:", "registry:", "device:", "base")
    assert [line.split()[:2] for line in out.splitlines()] == [["ok", what] for what in looks]
    code, out, _ = run(
        capsys, monkeypatch, "doctor", "--config", DEMO, *sets, "--set", f"sources.root={tmp_path}/nowhere"
    )
    assert code == 1
    assert "BAD  interactions: no folder or bucket" in out


@pytest.mark.parametrize(
    ("setting", "what"), [("interactions.user_id=kunde", "interactions"), ("items.title=titel", "items")]
)
def test_the_doctor_finds_a_wrong_column_and_names_the_fix(capsys, monkeypatch, town, setting, what):
    sets = [part for override in town[0].overrides for part in ("--set", override)]
    code, out, _ = run(capsys, monkeypatch, "doctor", "--config", DEMO, *sets, "--set", f"sources.{setting}")
    bad, fix = (line for line in out.splitlines() if not line.startswith("ok"))
    assert code == 1
    assert bad.startswith(f"BAD  {what}: no column '{setting.split('=')[1]}' in ")
    assert fix.startswith(f"     fix: correct [sources.{what}] of the settings file; `dealrec doctor --sources` shows")


def test_upkeep_joins_files_keeps_what_the_nights_name_and_reports_every_table(capsys, monkeypatch, town):
    place, summaries = town
    sets = [part for override in place.overrides for part in ("--set", override)]
    night = reopen(summaries[0].night, place.lake)
    before = place.lake.scan("interactions", night.need("ingest").version).collect().height
    code, out, _ = run(capsys, monkeypatch, "upkeep", "--json", "--config", DEMO, *sets)
    found = json.loads(out)
    assert (code, found["vacuumed"], found["message"]) == (0, True, "done")
    tables = {table["table"]: table for table in found["tables"]}
    assert tables["interactions"]["rows"] == place.lake.scan("interactions").collect().height
    assert tables["samples"]["pinned"] == 2  # one version a night
    assert tables["coresets"]["files"] == 1
    assert place.lake.scan("interactions", night.need("ingest").version).collect().height == before


def test_upkeep_beside_a_running_night_removes_nothing_and_says_so(capsys, monkeypatch, town):
    place, _ = town
    sets = [part for override in place.overrides for part in ("--set", override)]
    with lock(place.lake, home=place.config.run.home):
        code, out, _ = run(capsys, monkeypatch, "upkeep", "--json", "--config", DEMO, *sets)
    found = json.loads(out)
    assert (code, found["vacuumed"]) == (0, False)
    assert found["message"].startswith("nothing was removed: process ")


@pytest.fixture
def small(tmp_path):
    """Settings of a lake with three events, and a row whose rating is a word."""
    (tmp_path / "raw").mkdir()
    lines = "ann-1,x,1767225600,4\nann-1,y,1767225601,4\nbob,x,1767225602,4\nbob,y,1767225603,four\n"
    (tmp_path / "raw" / "log.csv").write_text("user_id,item_id,timestamp,stars\n" + lines)
    config = SourcesConfig(
        root=str(tmp_path / "raw"),
        interactions=InteractionSource(files=["*.csv"], rating="stars"),
        max_bad_fraction=1,
    )
    interactions.ingest(Lake(str(tmp_path / "lake")), config, through=date(2026, 1, 1), partition="day")
    settings = tmp_path / "pipeline.toml"
    settings.write_text(
        f"[sources]\nroot = '{tmp_path}/raw'\n[sources.interactions]\nfiles = ['*.csv']\n"
        f"[lake]\nroot = '{tmp_path}/lake'\n[run]\nhome = '{tmp_path}'\n"
    )
    return settings


def test_a_user_is_erased_from_the_command_line(capsys, monkeypatch, small, tmp_path):
    code, out, _ = run(capsys, monkeypatch, "erase-user", "ann-1", "--now", "--config", str(small), "--json")
    assert (code, json.loads(out)) == (0, {"rows": {"interactions": 2}, "withdrawn": [], "remaining": []})
    assert set(Lake(str(tmp_path / "lake")).scan("interactions").collect()["user_id"]) == {"bob"}


def test_nobody_is_erased_beside_a_running_night(capsys, monkeypatch, small, tmp_path):
    with lock(Lake(str(tmp_path / "lake")), home=str(tmp_path)):
        code, _, err = run(capsys, monkeypatch, "erase-user", "ann-1", "--config", str(small))
    assert code == 1
    assert "wait until it ends" in err


def test_quarantine_is_replayed_from_the_command_line(capsys, monkeypatch, small, tmp_path, prefect_server):
    arguments = ["ingest", "--replay-quarantine", "--day", "2026-01-01", "--config", str(small), "--json"]
    code, out, _ = run(capsys, monkeypatch, *arguments)
    found = json.loads(out[out.index("{") :])
    assert (code, found["rows"], found["inserted"]) == (0, 1, 1)
    assert Lake(str(tmp_path / "lake")).scan("quarantine").collect().is_empty()


def test_files_are_taken_again_from_the_command_line(capsys, monkeypatch, small, tmp_path, prefect_server):
    arguments = ["ingest", "--again", "*.csv", "--config", str(small), "--json"]
    code, out, _ = run(capsys, monkeypatch, *arguments)
    found = json.loads(out[out.index("{") :])
    assert (code, found["withdrawn"], found["inserted"], found["quarantined"]) == (0, 3, 4, 0)
    code, _, err = run(capsys, monkeypatch, *arguments, "--replay-quarantine")
    assert (code, err) == (1, "error: --again also reads quarantined rows; omit --replay-quarantine\n")


def test_a_type_of_event_that_never_occurs_gives_an_exit_code(capsys, monkeypatch, small, tmp_path, prefect_server):
    (tmp_path / "raw" / "more.csv").write_text("user_id,item_id,timestamp,kind\neve,x,1767225600,view\n")
    sets = ("sources.interactions.event_type=kind", "sources.interactions.event_weights={view=1,Buy=5}")
    overrides = [word for text in sets for word in ("--set", text)]
    code, _, err = run(capsys, monkeypatch, "ingest", "--day", "2026-01-01", "--config", str(small), *overrides)
    assert code == 3
    assert "event_weights names 'Buy', which no row has; the types are event, view" in err
    assert "eve" in set(Lake(str(tmp_path / "lake")).scan("interactions").collect()["user_id"])


def test_the_doctor_shows_how_rows_would_land(capsys, monkeypatch, small):
    sets = ["--set", "sources.interactions.rating=stars"]
    code, out, _ = run(capsys, monkeypatch, "doctor", "--sources", "--config", str(small), *sets)
    assert code == 1
    assert "a night would stop: about 25% of the rows would be bad" in out
    sets += ["--set", "sources.max_bad_fraction=0.5"]
    code, out, _ = run(capsys, monkeypatch, "doctor", "--sources", "--config", str(small), *sets)
    assert code == 0
    assert "CSV, utf-8, commas between fields" in out
    assert "of its first 4 records, 3 would be stored, 0 would be filtered out, and 1 would be quarantined" in out
    assert "rating is not a number" in out


def test_a_study_wants_a_settings_file_and_the_fidelity_study_its_options_after_its_name(capsys, monkeypatch):
    code, _, err = run(capsys, monkeypatch, "study")
    assert (code, err) == (1, "error: dealrec study needs a settings file; name one with --config\n")
    code, _, err = run(capsys, monkeypatch, "study", "--json", "fidelity")
    assert (code, err) == (1, "error: write the options of 'study fidelity' after its name\n")


def test_the_fidelity_study_runs_from_the_command_line(capsys, monkeypatch, tmp_path):
    data = write_released(tmp_path / "data", users=30, items=8)
    (tmp_path / "fidelity.toml").write_text(
        f'kind = "released"\ndata = "{data}"\nfolder = "{tmp_path}/starts"\nitems = 8\nhistory_length = 2\n'
        "width = 4\nstarts = 1\nhalves = 3\nleft_out = 3\nsettling = 5\nrefit = { steps = 5 }\n"
    )
    command = ("study", "fidelity", "--config", f"{tmp_path}/fidelity.toml")
    code, out, err = run(capsys, monkeypatch, *command, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert {"identity", "released", "random"} < set(found["estimators"])
    code, out, _ = run(capsys, monkeypatch, *command)  # from the start that was kept
    assert f"1 starts are stored in {tmp_path}/starts" in out
    assert f"| identity | 0 | {found['estimators']['identity']['lds'][0]:.2f} [" in out
