import json
from datetime import date

import polars as pl
import pytest

from dealrec_core import books, interactions
from dealrec_core.lake import Lake
from dealrec_core.sources import InteractionSource, SourcesConfig

NEW_YEAR = 1767225600  # 2026-01-01T00:00:00Z


class Killed(BaseException):
    """Stands for a kill."""


@pytest.fixture
def lake(tmp_path) -> Lake:
    (tmp_path / "raw").mkdir()
    return Lake(str(tmp_path / "lake"))


def take(lake, tmp_path, name, day=1):
    if name:
        (tmp_path / "raw" / name).write_text(f"u,i,t\na,{name},{NEW_YEAR}\nb,{name},{NEW_YEAR + 86_400}\nc,,0\n")
    source = InteractionSource(files=["*"], user_id="u", item_id="i", timestamp="t")
    config = SourcesConfig(root=str(tmp_path / "raw"), interactions=source, max_bad_fraction=1)
    return interactions.ingest(lake, config, through=date(2026, 1, day), partition="day")


def killed(monkeypatch, lake, tmp_path, name, *, before, day=1):
    """An ingest that ends where it would call books.`before`."""

    def kill(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(books, before, kill)
        with pytest.raises(Killed):
            take(lake, tmp_path, name, day)


def booked(lake) -> list[tuple]:
    found = lake.scan("files").select("path", "through", "inserted", "quarantined", "postponed").collect()
    return sorted((path.rsplit("/", 1)[1], through.day, *rest) for path, through, *rest in found.iter_rows())


def test_books_that_a_kill_left_open_are_closed_by_the_next_ingest(monkeypatch, lake, tmp_path):
    killed(monkeypatch, lake, tmp_path, "one.csv", before="write")
    take(lake, tmp_path, "two.csv")
    assert booked(lake) == [("one.csv", 1, 1, 1, 1), ("two.csv", 1, 1, 1, 1)]


def test_books_are_closed_however_many_commits_came_in_between(monkeypatch, lake, tmp_path):
    take(lake, tmp_path, "one.csv")
    with monkeypatch.context() as patch:
        patch.setattr(books, "heal", lambda _: None)
        killed(monkeypatch, lake, tmp_path, "two.csv", before="write")
    for number in range(60):
        lake.open("interactions").alter.set_table_properties({"x": str(number)}, raise_if_not_exists=False)
    take(lake, tmp_path, "three.csv")
    assert [name for name, *_ in booked(lake)] == ["one.csv", "three.csv", "two.csv"]


def test_every_reading_is_booked_when_two_nights_were_killed_before_it(monkeypatch, lake, tmp_path):
    killed(monkeypatch, lake, tmp_path, "one.csv", before="write")
    with monkeypatch.context() as patch:
        patch.setattr(books, "heal", lambda _: None)  # the first night's commit came after this one had looked
        killed(monkeypatch, lake, tmp_path, None, before="write", day=2)
    take(lake, tmp_path, "two.csv", day=2)
    assert booked(lake) == [("one.csv", 1, 1, 1, 1), ("one.csv", 2, 1, 0, 0), ("two.csv", 2, 2, 1, 0)]


def test_bad_rows_are_in_quarantine_once_when_a_kill_came_before_their_file_was_taken(monkeypatch, lake, tmp_path):
    real = books.note
    killed(monkeypatch, lake, tmp_path, "one.csv", before="note")
    assert books.note is real
    assert not lake.scan("interactions").collect().height
    take(lake, tmp_path, None)
    bad = lake.scan("quarantine").collect()
    assert bad["row"].to_list() == [3]
    assert booked(lake) == [("one.csv", 1, 1, 1, 1)]


def test_commits_that_were_looked_at_are_not_looked_at_again(monkeypatch, lake, tmp_path):
    take(lake, tmp_path, "one.csv")
    for number in range(books.SEEN_AT_ONCE + 1):
        lake.open("interactions").alter.set_table_properties({"x": str(number)}, raise_if_not_exists=False)
    books.heal(lake)
    assert lake.transaction_version("files", books.SEEN) == lake.version("interactions") + 1
    version = lake.version("files")
    books.heal(lake)
    assert lake.version("files") == version


def test_a_note_holds_the_rows():
    row = {"file": "abc", "rows": 3}
    assert json.loads(books.note([row])[books.NOTE]) == [row]


def test_a_lake_without_interactions_needs_no_healing(lake):
    books.heal(lake)
    assert not lake.exists("files")


def test_quarantine_takes_the_rows_of_a_file_once(lake):
    rows = pl.DataFrame({"row": [7], "column": ["user_id"], "reason": ["no user id"], "raw": [",x,1"]})
    for _ in range(2):
        books.quarantine(lake, [("sha", "log.csv", rows)])
    assert lake.scan("quarantine").collect().rows() == [("sha", "log.csv", 7, "user_id", "no user id", ",x,1")]
