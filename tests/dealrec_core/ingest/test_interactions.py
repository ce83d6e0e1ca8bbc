import bz2
import gzip
import json
import pickle
from datetime import UTC, date, datetime

import polars as pl
import pytest
import zstandard

from dealrec_core.errors import DataError, SettingsError
from dealrec_core.ingest import interactions, item_files, sources, times
from dealrec_core.lake import Lake
from dealrec_core.settings.sources import InteractionSource, ItemSource, SourcesConfig

NEW_YEAR = 1767225600  # 2026-01-01T00:00:00Z
DAY = 86_400


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def config(folder, max_bad_fraction=0.05, **options) -> SourcesConfig:
    names = {"files": ["*"], "user_id": "u", "item_id": "i", "timestamp": "t", **options}
    return SourcesConfig(root=str(folder), interactions=InteractionSource(**names), max_bad_fraction=max_bad_fraction)


def take(lake, folder, day=1, **options) -> interactions.IngestReport:
    return interactions.ingest(lake, config(folder, **options), through=date(2026, 1, day), partition="day")


def log(lake) -> pl.DataFrame:
    return lake.scan("interactions").collect().sort("timestamp", "user_id", "item_id")


CSV = f"u,i,t\na,x,{NEW_YEAR}\nb,y,{NEW_YEAR + 1}\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("log.csv", CSV.encode()),
        ("log.csv", b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode()),
        ("log.csv", CSV.replace(",", ";").encode()),
        ("log.csv.gz", gzip.compress(CSV.encode())),
        ("log.csv.zst", zstandard.compress(CSV.encode())),
        ("log.csv.bz2", bz2.compress(CSV.encode())),
        (
            "log.jsonl",
            "".join(
                json.dumps({"u": u, "i": i, "t": t}) + "\n"
                for u, i, t in [("a", "x", NEW_YEAR), ("b", "y", NEW_YEAR + 1)]
            ).encode(),
        ),
    ],
    ids=["csv", "bom and crlf", "semicolons", "gz", "zst", "bz2", "jsonl"],
)
def test_every_format_lands_the_same_rows(lake, folder, name, content):
    (folder / name).write_bytes(content)
    report = take(lake, folder)
    assert (report.rows, report.inserted) == (2, 2)
    assert log(lake)["user_id"].to_list() == ["a", "b"]
    assert log(lake)["timestamp"].to_list()[0] == datetime(2026, 1, 1, tzinfo=UTC)


def test_parquet_lands_with_its_types(lake, folder):
    frame = pl.DataFrame({"u": [7], "i": ["x"], "t": [datetime(2026, 1, 1, 12)], "r": [4.5]})
    frame.write_parquet(folder / "log.parquet")
    take(lake, folder, rating="r")
    row = log(lake).row(0, named=True)
    assert (row["user_id"], row["rating"], row["timestamp"]) == ("7", 4.5, datetime(2026, 1, 1, 12, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1767225600", datetime(2026, 1, 1, tzinfo=UTC)),
        ("1767225600000", datetime(2026, 1, 1, tzinfo=UTC)),
        ("1767225600000000", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T02:00:00", datetime(2026, 1, 1, 2, tzinfo=UTC)),
        ("2026-01-01 02:00:00.5", datetime(2026, 1, 1, 2, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-01T02:00:00Z", datetime(2026, 1, 1, 2, tzinfo=UTC)),
        ("2026-01-01T02:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
    ],
)
def test_times_are_read_as_utc(text, expected):
    assert times.utc_times(pl.Series("t", [text])).item() == expected


def test_the_same_file_under_another_name_is_not_taken_again(lake, folder):
    (folder / "one.csv").write_text(CSV)
    assert take(lake, folder).inserted == 2
    version = lake.version("interactions")
    (folder / "two.csv").write_text(CSV)
    assert take(lake, folder).files == []
    assert lake.version("interactions") == version


def test_the_same_event_in_another_file_is_a_duplicate(lake, folder):
    (folder / "one.csv").write_text(CSV)
    take(lake, folder)
    (folder / "two.csv").write_text(CSV + f"c,z,{NEW_YEAR}\nc,z,{NEW_YEAR}\n")
    report = take(lake, folder)
    assert (report.rows, report.inserted, report.duplicates) == (4, 1, 3)
    assert len(log(lake)) == 3


def test_rows_after_the_night_are_postponed_and_taken_by_a_later_night(lake, folder):
    (folder / "log.csv").write_text(f"u,i,t\na,x,{NEW_YEAR}\nb,y,{NEW_YEAR + DAY}\nc,z,{NEW_YEAR + 3 * DAY}\n")
    first, second, third, fourth = (take(lake, folder, day=day) for day in (1, 2, 4, 5))
    assert (first.inserted, first.postponed, first.earlier) == (1, 2, 0)
    assert (second.inserted, second.postponed, second.earlier) == (1, 1, 1)
    assert (third.inserted, third.postponed, third.earlier) == (1, 0, 2)
    assert fourth.files == []


def test_bad_rows_go_to_quarantine_once_with_row_column_and_reason(lake, folder):
    (folder / "log.csv").write_text(
        f"u,i,t,r\n,x,{NEW_YEAR},1\na,,{NEW_YEAR},1\na,x,soon,1\na,x,{NEW_YEAR},nan\na,x\nb,y,{NEW_YEAR + DAY},2\n"
    )
    first = take(lake, folder, rating="r", max_bad_fraction=1)
    second = take(lake, folder, day=2, rating="r")
    assert (first.quarantined, second.quarantined, second.earlier, second.inserted) == (5, 0, 5, 1)
    bad = lake.scan("quarantine").collect().sort("row")
    assert bad["row"].to_list() == [1, 2, 3, 4, 5]
    assert bad["column"].to_list() == ["user_id", "item_id", "timestamp", "rating", ""]
    assert [reason.split(";")[0] for reason in bad["reason"]] == [
        "no user id",
        "no item id",
        "unreadable timestamp 'soon'",
        "rating is not a number: 'nan'",
        "2 fields where the header has 4",
    ]
    assert bad["raw"][2] == "a,x,soon,1"


def test_the_filter_keeps_what_it_says(lake, folder):
    (folder / "log.csv").write_text(f"u,i,t,r\na,x,{NEW_YEAR},4\na,y,{NEW_YEAR},3.5\n")
    report = take(lake, folder, rating="r", filter="rating >= 4")
    assert (report.inserted, report.filtered) == (1, 1)


def test_a_filter_that_makes_no_sense_is_a_settings_error(lake, folder):
    (folder / "log.csv").write_text(CSV)
    with pytest.raises(SettingsError, match="filter 'stars >= 4'"):
        take(lake, folder, filter="stars >= 4")


def test_a_column_that_is_not_there_is_named_with_those_that_are(lake, folder):
    (folder / "log.csv").write_text(CSV)
    with pytest.raises(SettingsError, match="no column 'userId' in .*log.csv', which has u, i, t"):
        take(lake, folder, user_id="userId")
    assert not lake.exists("interactions")


def test_a_cut_off_file_is_named_and_nothing_of_it_is_taken(lake, folder):
    (folder / "log.csv.gz").write_bytes(gzip.compress(CSV.encode() * 100)[:-20])
    with pytest.raises(DataError, match=r"\d+ of \d+ rows are bad.*cannot unpack '.*log.csv.gz"):
        take(lake, folder)
    assert not lake.exists("interactions")


def test_a_cut_off_file_counts_with_all_its_rows_where_so_much_is_allowed(lake, folder):
    content = "u,i,t\n" + "".join(f"user{row * row},item{row},{NEW_YEAR + row}\n" for row in range(1000))
    (folder / "bad.csv.gz").write_bytes(gzip.compress(content.encode())[:-20])
    (folder / "good.csv").write_text(CSV)
    with pytest.raises(DataError, match=r"of 1,00\d rows are bad, more than sources.max_bad_fraction = 0.5"):
        take(lake, folder, max_bad_fraction=0.5)
    report = take(lake, folder, max_bad_fraction=1)
    assert (report.inserted, report.rows - report.quarantined) == (2, 2)
    assert 980 <= report.quarantined <= 1000  # those in the bytes that are there
    bad = lake.scan("quarantine").collect().row(0, named=True)
    assert (bad["row"], bad["path"].endswith("bad.csv.gz")) == (0, True)
    assert take(lake, folder).files == []


def test_stray_empty_columns_at_the_end_do_no_harm(lake, folder):
    (folder / "log.csv").write_text(f"u,i,t,,,\na,x,{NEW_YEAR},,,\nb,y,{NEW_YEAR},,3.5,\n")
    assert take(lake, folder).inserted == 2


def test_a_quoted_field_may_hold_separators_and_newlines_and_its_raw_text_is_found_again(lake, folder):
    (folder / "log.csv").write_text(f'u,i,t\n"a,1","x\ny",{NEW_YEAR}\nb,y,{NEW_YEAR}\n')
    take(lake, folder)
    assert log(lake)["user_id"].to_list() == ["a,1", "b"]
    assert sources.raw_record(str(folder / "log.csv"), 1) == f'"a,1","x\ny",{NEW_YEAR}'
    assert sources.raw_record(str(folder / "log.csv"), 2) == f"b,y,{NEW_YEAR}"


def test_a_newer_item_file_wins_and_titles_may_repeat(lake, folder):
    source = ItemSource(files=["items*.csv"], item_id="id", title="name", categories="genres")
    config = SourcesConfig(
        root=str(folder), interactions=InteractionSource(files=["log*"]), items=source, max_bad_fraction=0.5
    )
    (folder / "items1.csv").write_text("id,name,genres\n1,Same,A|B\n2,Same,\n")
    assert item_files.ingest_items(lake, config).inserted == 2
    (folder / "items2.csv").write_text("id,name,genres\n2,Other,C\n1,Same,A|B\n,Lost,C\n")
    report = item_files.ingest_items(lake, config)
    assert (report.inserted, report.duplicates, report.quarantined) == (1, 1, 1)
    items = lake.scan("items").collect().sort("item_id")
    assert items["title"].to_list() == ["Same", "Other"]
    assert items["categories"].to_list() == [["A", "B"], ["C"]]
    assert item_files.ingest_items(lake, config).files == []


@pytest.mark.data
def test_movielens_lands_whole(lake, data_root):
    source = InteractionSource(files=["ratings.csv"], user_id="userId", item_id="movieId", rating="rating")
    config = SourcesConfig(root=str(data_root / "movielens-small"), interactions=source)
    report = interactions.ingest(lake, config, through=date(2026, 1, 1), partition="year")
    assert (report.rows, report.inserted, report.quarantined) == (100_004, 100_004, 0)  # its README says 100004 ratings


def test_a_lake_keeps_the_partition_it_was_made_with(lake, folder):
    (folder / "log.csv").write_text(CSV)
    take(lake, folder)
    (folder / "more.csv").write_text(f"u,i,t\nq,r,{NEW_YEAR}\n")
    with pytest.raises(
        SettingsError, match="lake.partition is 'month'.*partitioned by day.*set lake.partition = 'day'"
    ):
        interactions.ingest(lake, config(folder), through=date(2026, 1, 1), partition="month")
    assert take(lake, folder).inserted == 1


def sent(function, shards):
    """A map that sends everything through bytes, as one over other machines does."""
    return (pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(function))(shard))) for shard in shards)


def test_files_read_elsewhere_land_like_files_read_here(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(interactions, "SHARD_FILES", 2)
    rows = [f"u{number % 7},i{number % 11},{NEW_YEAR + number % 40 * 3600}," for number in range(300)]
    for name, part in (
        ("a", rows[:120]),
        ("b", rows[100:220]),
        ("c", rows[200:]),
    ):  # they overlap: repeats across files
        text = "u,i,t,e\n" + "\n".join(f"{row}{row.replace(',', '-')}" for row in part) + "\nbad,,soon,\n"
        (folder / f"{name}.csv").write_text(text)
    (folder / "d.csv").write_text("u,other\na,b\n")
    (folder / "e.csv.gz").write_bytes(b"not compressed")
    lakes = {}
    for name, over in (("here", None), ("elsewhere", sent)):
        lakes[name] = Lake(str(tmp_path / name))
        for day in (1, 9):  # some rows of the first reading are of the second day
            interactions.ingest(
                lakes[name], config(folder, 0.5, event_id="e"), through=date(2026, 1, day), partition="day", over=over
            )
    for table in ("interactions", "quarantine", "files"):
        here, elsewhere = (
            lake.scan(table).collect().drop("at", "taken_at", strict=False).sort(pl.all()) for lake in lakes.values()
        )
        assert here.equals(elsewhere), table
    assert log(lakes["elsewhere"]).height == len(set(rows))


def test_a_column_that_no_file_has_is_told_also_when_files_are_read_elsewhere(lake, folder):
    (folder / "log.csv").write_text("u,t\na,1767225600\n")
    with pytest.raises(SettingsError, match="no column 'i'"):
        interactions.ingest(lake, config(folder), through=date(2026, 1, 1), partition="day", over=sent)
