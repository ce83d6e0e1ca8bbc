from datetime import date

import polars as pl
import pytest

from dealrec_core.errors import SourceError
from dealrec_core.ingest import interactions, replay
from dealrec_core.lake import Lake, ledger
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

NEW_YEAR, DAY = 1767225600, 86_400
PARTS = ["earlier", "inserted", "duplicates", "quarantined", "filtered", "postponed"]


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "raw").mkdir()
    lines = f"a,x,{NEW_YEAR},4\nb,y,{NEW_YEAR},four\nc,z,soon,4\nd,x,{NEW_YEAR + 5 * DAY},five\n"
    (tmp_path / "raw" / "log.csv").write_text("user_id,item_id,timestamp,stars\n" + lines)
    return tmp_path / "raw"


def config(folder, **mapping) -> SourcesConfig:
    return SourcesConfig(
        root=str(folder), interactions=InteractionSource(files=["*.csv"], **mapping), max_bad_fraction=1
    )


WRONG, RIGHT = {"rating": "stars"}, {}
"""The log writes stars as words now and then; the corrected mapping takes no rating."""


def take(lake, folder, day, **mapping):
    return interactions.ingest(lake, config(folder, **mapping), through=date(2026, 1, day), partition="day")


def again(lake, folder, day=1, **mapping):
    return replay.replay(lake, config(folder, **mapping), through=date(2026, 1, day), partition="day")


def users(lake) -> list[str]:
    return sorted(lake.scan("interactions").collect()["user_id"])


def bad_rows(lake) -> list[int]:
    return sorted(lake.scan("quarantine").collect()["row"])


def test_rows_that_are_good_now_land_and_leave_quarantine(lake, folder):
    assert take(lake, folder, 1, **WRONG).quarantined == 3
    report = again(lake, folder, day=10, **RIGHT)
    assert (report.rows, report.inserted, report.quarantined) == (3, 2, 1)
    assert (users(lake), bad_rows(lake)) == (["a", "b", "d"], [3])
    assert lake.scan("quarantine").collect()["reason"].item().startswith("unreadable timestamp 'soon'")


def test_the_counts_balance_after_it(lake, folder):
    take(lake, folder, 1, **WRONG)
    again(lake, folder, day=10, **RIGHT)
    rows = lake.scan("files").collect()
    assert sorted(rows["kind"]) == ["interactions", "replay"]
    assert rows.select(pl.sum_horizontal(PARTS) == pl.col("rows")).to_series().all()


def test_with_the_same_mapping_nothing_changes(lake, folder):
    take(lake, folder, 1, **WRONG)
    assert again(lake, folder, **WRONG).inserted == 0
    assert (users(lake), bad_rows(lake)) == (["a"], [2, 3, 4])


def test_a_row_later_than_the_day_lands_in_the_night_of_its_day(lake, folder):
    take(lake, folder, 1, **WRONG)
    report = again(lake, folder, day=2, **RIGHT)
    assert (report.inserted, report.postponed, users(lake), bad_rows(lake)) == (1, 1, ["a", "b"], [3])
    assert take(lake, folder, 6, **RIGHT).inserted == 1
    assert (users(lake), bad_rows(lake)) == (["a", "b", "d"], [3])


def test_killed_before_the_rows_left_quarantine_it_is_run_again_and_doubles_nothing(lake, folder, monkeypatch):
    take(lake, folder, 1, **WRONG)
    with monkeypatch.context() as patch:
        patch.setattr(Lake, "replace", _die)
        with pytest.raises(KeyboardInterrupt):
            again(lake, folder, day=10, **RIGHT)
    assert (users(lake), bad_rows(lake)) == (["a", "b", "d"], [2, 3, 4])
    report = again(lake, folder, day=10, **RIGHT)
    assert (report.inserted, report.duplicates, users(lake), bad_rows(lake)) == (0, 2, ["a", "b", "d"], [3])


def test_killed_before_the_rows_of_files_were_written_they_are_written_later(lake, folder, monkeypatch):
    take(lake, folder, 1, **WRONG)
    with monkeypatch.context() as patch:
        write = ledger.write
        patch.setattr(
            ledger,
            "write",
            lambda lake, rows, **more: _die() if rows[0]["kind"] == "replay" else write(lake, rows, **more),
        )
        with pytest.raises(KeyboardInterrupt):
            again(lake, folder, day=10, **RIGHT)
    again(lake, folder, day=10, **RIGHT)
    rows = lake.scan("files").filter(kind="replay").sort("inserted").collect()
    assert rows.select("inserted", "duplicates").rows() == [(0, 2), (2, 0)]


def test_a_raw_file_that_is_gone_or_changed_is_named_and_nothing_is_lost(lake, folder):
    take(lake, folder, 1, **WRONG)
    (folder / "log.csv").write_text("user_id,item_id,timestamp,stars\n")
    with pytest.raises(SourceError, match="log.csv', which has quarantined rows, is gone or was changed.*nothing was"):
        again(lake, folder, **RIGHT)
    assert bad_rows(lake) == [2, 3, 4]


def test_a_raw_file_may_have_another_name_by_now(lake, folder):
    take(lake, folder, 1, **WRONG)
    (folder / "log.csv").rename(folder / "moved.csv")
    assert again(lake, folder, day=10, **RIGHT).inserted == 2


def test_a_file_that_was_broken_as_a_whole_is_read_as_a_whole(lake, folder):
    (folder / "log.csv").write_text(f"user,item_id,timestamp\na,x,{NEW_YEAR}\nb,y,{NEW_YEAR}\n")
    (folder / "good.csv").write_text(f"user_id,item_id,timestamp\nq,x,{NEW_YEAR}\n")
    assert take(lake, folder, 1).quarantined == 2  # all rows of the file
    files = SourcesConfig(
        root=str(folder), interactions=InteractionSource(files=["log.csv"], user_id="user"), max_bad_fraction=1
    )
    report = replay.replay(lake, files, through=date(2026, 1, 1), partition="day")
    assert (report.inserted, users(lake), bad_rows(lake)) == (2, ["a", "b", "q"], [])


def test_an_empty_quarantine_is_left_alone(lake, folder):
    assert again(lake, folder).rows == 0
    assert not lake.exists("interactions")


def _die(*_: object, **__: object) -> None:
    raise KeyboardInterrupt
