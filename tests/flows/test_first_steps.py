import json

import pytest

from dealrec_core import settings
from dealrec_core.errors import SettingsError, SourceError
from dealrec_core.ingest import guess
from flows import cli
from flows.first_steps import Answers, init
from tests.flows.test_cli import run


@pytest.fixture
def shop(tmp_path):
    """A shop's files: semicolons, milliseconds, other names, a day a file."""
    (tmp_path / "raw" / "log").mkdir(parents=True)
    for day in (1, 2):
        lines = [
            f"k{n % 9};A{n % 7};{1767225600000 + day * 86_400_000 + n * 1000};{'kauf' if n % 3 else 'blick'}"
            for n in range(50)
        ]
        text = "\n".join(["kunde;artikelnr;zeitpunkt_ms;vorgang", *lines])
        (tmp_path / "raw" / "log" / f"kauf-2026-01-{day:02}.csv").write_text(f"{text}\n")
    titles = [f"A{n};Lampe Nummer {n};Lampen|Holz" for n in range(7)]
    (tmp_path / "raw" / "artikel.csv").write_text("\n".join(["nr;bezeichnung;warengruppe", *titles]))
    return tmp_path


def test_init_writes_settings_that_work_for_a_log_of_other_names(shop, capsys, monkeypatch):
    monkeypatch.chdir(shop)
    code, out, _ = run(capsys, monkeypatch, "init", "raw", "--json")
    begun = json.loads(out)
    assert (code, begun["rows_looked_at"], begun["rows_bad"], begun["problems"]) == (0, 100, 0, [])
    config = settings.load("pipeline.toml").sources
    assert config.interactions.files == ["log/kauf-*.csv"]
    found = config.interactions.user_id, config.interactions.item_id, config.interactions.timestamp
    assert found == ("kunde", "artikelnr", "zeitpunkt_ms")
    assert config.items is not None
    assert (config.items.files, config.items.item_id, config.items.title) == (["artikel.csv"], "nr", "bezeichnung")
    assert (config.items.categories, config.items.categories_separator) == ("warengruppe", "|")
    code, out, _ = run(capsys, monkeypatch, "plan", "--day", "2026-01-05")  # the file is found without --config
    assert (code, out.count("log/kauf-")) == (0, 2)
    code, _, err = run(capsys, monkeypatch, "init", "raw")
    assert (code, err) == (
        1,
        "error: 'pipeline.toml' exists already; edit it, name another file with --to, or replace it with --force\n",
    )


def test_init_asks_with_an_option_what_it_cannot_tell(tmp_path):
    rows = "\n".join(f"u{n % 5},i{n % 7},v{n % 3},2026-01-01 10:00:{n % 60:02}" for n in range(60))
    (tmp_path / "events.csv").write_text(f"a,b,c,at\n{rows}\n")
    to = tmp_path / "pipeline.toml"
    with pytest.raises(SettingsError, match=r"Which column holds the user\? It may be a, b, c; name it with --user"):
        init(str(tmp_path), Answers(), to=to, force=False)
    with pytest.raises(SettingsError, match="--item z: there is no such column; the columns are a, b, c, at"):
        init(str(tmp_path), Answers(user="a", item="z"), to=to, force=False)
    begun = init(str(tmp_path), Answers(user="a", item="b"), to=to, force=False)
    assert (begun.columns, begun.items) == ({"user_id": "a", "item_id": "b", "timestamp": "at"}, None)
    assert begun.lines()[-1] == f"next: dealrec nightly --config {to}"


def test_a_folder_without_times_is_named_with_what_it_holds(tmp_path):
    (tmp_path / "names.csv").write_text("id,name\n1,Ann\n2,Bob\n")
    with pytest.raises(
        SourceError, match=r"no file below '.*' has times beside users and items \(names.csv has id, name\)"
    ):
        guess.guess(str(tmp_path))


def test_dates_and_numbers_in_names_are_stars_for_the_files_to_come():
    names = {
        "day=2026-01-01/part-0.parquet": "day=*/part-*.parquet",
        "log/2026-01-01.csv.gz": "log/*.csv.gz",
        "ratings.csv": "ratings.csv",
    }
    assert {name: guess._pattern(f"/data/{name}", "/data/") for name in names} == names


def test_the_settings_file_is_the_one_that_is_named_then_the_one_here(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline.toml").write_text(
        '[lake]\nroot = "here"\n[sources]\nroot = "."\n[sources.interactions]\nfiles = ["*"]\n'
    )
    (tmp_path / "other.toml").write_text((tmp_path / "pipeline.toml").read_text().replace("here", "there"))
    asked = ["report", "2026"]
    assert "no night in here yet" in run(capsys, monkeypatch, *asked)[2]
    monkeypatch.setenv("DEALREC_CONFIG", "other.toml")
    assert "no night in there yet" in run(capsys, monkeypatch, *asked)[2]
    assert "no night in here yet" in run(capsys, monkeypatch, *asked, "--config", "pipeline.toml")[2]


def test_the_version_is_shown(capsys, monkeypatch):
    code, out, _ = run(capsys, monkeypatch, "--version")
    assert code == 0
    assert out.startswith("dealrec ")
    assert cli.app._add_completion
