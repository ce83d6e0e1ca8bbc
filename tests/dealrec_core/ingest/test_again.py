"""Files that are taken again under a corrected mapping, or after they were corrected."""

from datetime import date

import polars as pl
import pytest

from benchmarks import putting_right
from dealrec_core.errors import DataError, SourceError
from dealrec_core.ingest import again, ids, interactions, item_files
from dealrec_core.lake import Lake
from dealrec_core.samples import sample_table
from dealrec_core.settings.sources import InteractionSource, ItemSource, SourcesConfig

NEW_YEAR = 1767225600  # 2026-01-01T00:00:00Z
DAY = 86_400


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def lines(*events: tuple[str, str, int, object]) -> str:
    return "user_id,item_id,timestamp,stars\n" + "".join(f"{u},{i},{NEW_YEAR + t},{r}\n" for u, i, t, r in events)


def config(folder, **mapping) -> SourcesConfig:
    source = InteractionSource(files=["**/*.csv"], rating="stars", **mapping)
    items = ItemSource(files=["*.items"], title="name")
    return SourcesConfig(root=str(folder), interactions=source, items=items, max_bad_fraction=0.5)


def ingest(lake, folder, day=9, **mapping):
    return interactions.ingest(lake, config(folder, **mapping), through=date(2026, 1, day), partition="day")


def correct(lake, folder, *patterns, fewer=False, **mapping):
    place = {"through": date(2026, 1, 9), "partition": "day"}
    return again.again(lake, config(folder, **mapping), list(patterns) or ["**"], **place, fewer=fewer)


def tables(lake: Lake) -> dict[str, list]:
    """Every row of the tables that an ingest writes."""
    names = ("interactions", "quarantine", "files", "items")
    return {name: sorted(lake.scan(name).collect().rows(), key=str) for name in names if lake.exists(name)}


def assert_as_if_right_from_the_start(lake, folder, **mapping):
    right = Lake(f"{lake.root}-right")
    ingest(right, folder, **mapping)
    item_files.ingest_items(right, config(folder, **mapping))
    assert tables(lake) == tables(right)


def test_a_corrected_filter_takes_the_rows_that_the_wrong_one_turned_down(lake, folder):
    (folder / "log.csv").write_text(lines(("a", "x", 0, 4), ("b", "y", 1, 2), ("c", "z", DAY, 3), ("d", "x", 2, "bad")))
    (folder / "more.csv").write_text(lines(("e", "x", 3, 4)))
    ingest(lake, folder, filter="rating >= 4")
    report = correct(lake, folder, "log.csv", filter="rating >= 3")
    assert (report.withdrawn, report.rows, report.inserted, report.filtered, report.quarantined) == (1, 4, 2, 1, 1)
    assert_as_if_right_from_the_start(lake, folder, filter="rating >= 3")
    assert ingest(lake, folder, filter="rating >= 3").files == []


def test_a_corrected_file_takes_the_place_of_the_one_before_and_of_nothing_else(lake, folder):
    (folder / "one.csv").write_text(
        lines(("a", "x", 0, 1), ("b", "wrong", 1, 2), ("c", "z", DAY, 3), ("q", "z", 5, "bad"))
    )
    (folder / "two.csv").write_text(lines(("a", "other", 0, 1)))
    ingest(lake, folder)
    (folder / "one.csv").write_text(lines(("a", "x", 0, 5), ("b", "y", 1, 2)))
    ingest(lake, folder)
    assert len(lake.scan("interactions").collect()) == 5
    assert correct(lake, folder, "one.csv").withdrawn == 4
    assert_as_if_right_from_the_start(lake, folder)
    (folder / "one.csv").write_text(
        lines(("a", "x", 0, 1), ("b", "wrong", 1, 2), ("c", "z", DAY, 3), ("q", "z", 5, "bad"))
    )
    assert ingest(lake, folder).inserted == 2  # a content that was replaced is new when it comes back


def test_an_event_that_only_another_file_still_holds_comes_from_there(lake, folder):
    (folder / "one.csv").write_text(lines(("a", "x", 0, 1), ("b", "y", 1, 1)))
    (folder / "two.csv").write_text(lines(("a", "x", 0, 1), ("c", "z", 1, 1)))
    ingest(lake, folder)
    (folder / "one.csv").write_text(lines(("b", "y", 1, 1)))
    report = correct(lake, folder, "one.csv")
    assert [path.rsplit("/", 1)[1] for path in report.also] == ["two.csv"]
    assert_as_if_right_from_the_start(lake, folder)


def test_ids_that_an_older_program_has_not_joined_are_joined_in_old_samples_too(lake, folder, monkeypatch):
    (folder / "one.csv").write_text(lines(("u", "10.0", 0, 1), ("u", "9.0", 1, 1), ("u", "11.0", 1, 1)))
    with monkeypatch.context() as older:
        older.setattr(ids, "WHOLE", "^never$")
        ingest(lake, folder)
    (folder / "two.csv").write_text(lines(("u", "10", 0, 1), ("u", "12", 2, 1)))
    ingest(lake, folder)
    sample_table.update(lake, log_version=lake.version("interactions"), length=5)
    correct(lake, folder)
    sample_table.update(lake, log_version=lake.version("interactions"), length=5)
    samples = lake.scan("samples").collect().sort("timestamp", "item_id", descending=[False, True])
    assert samples.select("item_id", "history").rows() == [
        ("9", ["10"]),
        ("11", ["10", "9"]),
        ("12", ["10", "9", "11"]),
    ]


def test_a_file_whose_last_rows_wait_is_finished_by_a_later_night(lake, folder):
    (folder / "log.csv").write_text(lines(("a", "x", 0, 4), ("b", "y", 20 * DAY, 4)))
    ingest(lake, folder, day=9, filter="rating > 4 or user_id = 'b'")
    correct(lake, folder)
    report = ingest(lake, folder, day=30)
    assert (report.earlier, report.inserted) == (1, 1)
    assert lake.scan("files").select("inserted").sum().collect().item() == 2


def test_corrected_titles_take_the_place_of_the_wrong_ones(lake, folder):
    (folder / "log.csv").write_text(lines(("a", "x", 0, 4)))
    (folder / "one.items").write_text("item_id,name\nx,Wrong\ny,Gone\nz,Two\n")
    (folder / "two.items").write_text("item_id,name\nz,Two\n")
    ingest(lake, folder)
    item_files.ingest_items(lake, config(folder))
    (folder / "one.items").write_text("item_id,name\nx,Right\nz,One\n")
    report = correct(lake, folder, "one.items")
    assert (len(report.files), len(report.items.files)) == (0, 2)
    titles = lake.scan("items").select("item_id", "title").sort("item_id").collect()
    assert titles.rows() == [("x", "Right"), ("z", "Two")]
    assert_as_if_right_from_the_start(lake, folder)
    assert item_files.ingest_items(lake, config(folder)).files == []


def test_nothing_changes_where_the_correction_is_wrong_or_names_no_file(lake, folder):
    (folder / "log.csv").write_text(lines(("a", "x", 0, 4), ("b", "y", 1, 4)))
    ingest(lake, folder)
    before = tables(lake)
    with pytest.raises(SourceError, match=r"no file of \[sources\] below .* matches lgo.csv; give a path or pattern"):
        correct(lake, folder, "lgo.csv")
    with pytest.raises(DataError, match="filter = 'rating > 4' turns down all 2 rows; nothing was written"):
        correct(lake, folder, filter="rating > 4")
    assert tables(lake) == before


def test_a_name_that_was_used_for_one_log_after_another_is_not_taken_for_a_correction(lake, folder):
    for day in range(3):
        (folder / "today.csv").write_text(lines(*((f"u{user}", "x", day * DAY, 1) for user in range(4))))
        ingest(lake, folder)
    (folder / "moved.csv").write_bytes((folder / "today.csv").read_bytes())
    (folder / "today.csv").write_text(lines(*((f"u{user}", "y", 0, 1) for user in range(3))))
    with pytest.raises(
        DataError, match="today.csv' has 8 rows in the lake, from 2 earlier contents, and holds 3 now.*--fewer"
    ):
        correct(lake, folder, "today.csv")
    assert correct(lake, folder, "today.csv", fewer=True).withdrawn == 8
    assert len(lake.scan("interactions").collect()) == 7


def test_a_night_says_that_a_file_was_changed_unless_it_only_grew(lake, folder):
    (folder / "log.csv").write_text(text := lines(("a", "x", 0, 4), ("b", "y", 1, 4)))
    ingest(lake, folder)
    (folder / "log.csv").write_text(text + f"c,z,{NEW_YEAR + 2},4\n")
    ingest(lake, folder)
    rows = lake.scan("files").collect()
    assert again.corrected(lake, rows.filter(pl.col("rows") == 3)) == []
    (folder / "log.csv").write_text(lines(("a", "x", 0, 5), ("b", "y", 1, 4)))
    ingest(lake, folder)
    new = lake.scan("files").collect().join(rows, on="file", how="anti")
    assert "log.csv' has changed since it was read" in again.corrected(lake, new)[0]


@pytest.mark.timeout(120)
def test_killed_at_every_commit_and_run_again_the_tables_are_as_if_right_from_the_start(tmp_path):
    result = putting_right.measure(tmp_path, files=6, rows=120)
    # before and after the commits of quarantine, items and files; then of items and files, and of quarantine, interactions and files
    assert result["kills"] == 6 + 4 + 6
    assert result["differences"] == []
