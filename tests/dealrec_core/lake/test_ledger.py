import json
from datetime import date

import polars as pl
import pytest

from dealrec_core.ingest import interactions, item_files
from dealrec_core.lake import Lake, ledger
from dealrec_core.lake.draft import Draft
from dealrec_core.settings.sources import InteractionSource, ItemSource, SourcesConfig

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
    """An ingest that ends where it would call ledger.`before`."""

    def kill(*_, **__):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(ledger, before, kill)
        with pytest.raises(Killed):
            take(lake, tmp_path, name, day)


def booked(lake) -> list[tuple]:
    rows = lake.scan("files").select("path", "through", "inserted", "quarantined", "postponed").collect()
    return sorted((path.rsplit("/", 1)[1], through.day, *rest) for path, through, *rest in rows.iter_rows())


def test_rows_of_files_that_a_kill_prevented_are_written_by_the_next_ingest(monkeypatch, lake, tmp_path):
    killed(monkeypatch, lake, tmp_path, "one.csv", before="write")
    take(lake, tmp_path, "two.csv")
    assert booked(lake) == [("one.csv", 1, 1, 1, 1), ("two.csv", 1, 1, 1, 1)]


def test_rows_of_files_are_written_however_many_commits_came_in_between(monkeypatch, lake, tmp_path):
    take(lake, tmp_path, "one.csv")
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "heal", lambda _: None)
        killed(monkeypatch, lake, tmp_path, "two.csv", before="write")
    for number in range(60):
        lake.open("interactions").alter.set_table_properties({"x": str(number)}, raise_if_not_exists=False)
    take(lake, tmp_path, "three.csv")
    assert [name for name, *_ in booked(lake)] == ["one.csv", "three.csv", "two.csv"]


def test_every_reading_is_booked_when_two_nights_were_killed_before_it(monkeypatch, lake, tmp_path):
    killed(monkeypatch, lake, tmp_path, "one.csv", before="write")
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "heal", lambda _: None)  # the first night's commit came after this one had looked
        killed(monkeypatch, lake, tmp_path, None, before="write", day=2)
    take(lake, tmp_path, "two.csv", day=2)
    assert booked(lake) == [("one.csv", 1, 1, 1, 1), ("one.csv", 2, 1, 0, 0), ("two.csv", 2, 2, 1, 0)]


def test_bad_rows_are_in_quarantine_once_when_a_kill_came_before_their_file_was_taken(monkeypatch, lake, tmp_path):
    real = ledger.note
    killed(monkeypatch, lake, tmp_path, "one.csv", before="note")
    assert ledger.note is real
    assert not lake.scan("interactions").collect().height
    take(lake, tmp_path, None)
    bad = lake.scan("quarantine").collect()
    assert bad["row"].to_list() == [3]
    assert booked(lake) == [("one.csv", 1, 1, 1, 1)]


def test_commits_that_were_looked_at_are_not_looked_at_again(monkeypatch, lake, tmp_path):
    take(lake, tmp_path, "one.csv")
    for number in range(ledger.SEEN_AT_ONCE + 1):
        lake.open("interactions").alter.set_table_properties({"x": str(number)}, raise_if_not_exists=False)
    ledger.heal(lake)
    seen = lake.open("files").transaction_version(ledger.seen_transaction("interactions"))
    assert seen == lake.version("interactions") + 1
    version = lake.version("files")
    ledger.heal(lake)
    assert lake.version("files") == version


ITEMS = ItemSource(files=["items/*"], item_id="i", title="t")
LINES = {
    "items/a.csv": "i,t\none,One\ntwo,Two\n,nothing\n",
    "items/b.csv": "i,t\ntwo,Deux\nthree,Three\none,One\n",
    "items/c.csv": "i,t\none,One\n",
    "log.csv": f"u,i,t\na,one,{NEW_YEAR}\nb,two,{NEW_YEAR + 86_400}\nc,,0\n",
}
"""By hand: of b, two is changed, three new, one as it was; of c nothing is new."""


def take_all(raw, lake) -> None:
    source = InteractionSource(files=["*.csv"], user_id="u", item_id="i", timestamp="t")
    config = SourcesConfig(root=str(raw), interactions=source, items=ITEMS, max_bad_fraction=1)
    interactions.ingest(lake, config, through=date(2026, 1, 1), partition="day")
    item_files.ingest_items(lake, config)


def ends_at_commit(monkeypatch, number: int, *, done: bool):
    """Ends the ingest before (or after) its commit of that number; gives the commits that were asked for."""
    asked = []
    commit = Draft.commit

    def watched(draft, *arguments):
        asked.append(draft.table)
        if done or len(asked) != number:
            commit(draft, *arguments)
        if len(asked) == number:
            raise Killed

    monkeypatch.setattr(Draft, "commit", watched)
    return asked


COMMITS = ["quarantine", "interactions", "files", "quarantine", "items", "files", "items", "files", "files"]


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(1, len(COMMITS) + 1))
def test_the_ledger_is_that_of_an_undisturbed_ingest_after_a_kill_at_any_commit(
    monkeypatch, lake, tmp_path, number, done
):
    for name, lines in LINES.items():
        path = tmp_path / "raw" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(lines)
    with monkeypatch.context() as patch:
        asked = ends_at_commit(patch, number, done=done)
        with pytest.raises(Killed):
            take_all(tmp_path / "raw", lake)
        assert asked == COMMITS[:number]
    take_all(tmp_path / "raw", lake)
    columns = ["path", "rows", "inserted", "duplicates", "quarantined", "postponed"]
    rows = lake.scan("files").select(columns).collect().iter_rows()
    assert sorted((path.rsplit("/", 1)[1], *counts) for path, *counts in rows) == [
        ("a.csv", 3, 2, 0, 1, 0),
        ("b.csv", 3, 2, 1, 0, 0),
        ("c.csv", 1, 0, 1, 0, 0),
        ("log.csv", 3, 1, 0, 1, 1),
    ]
    assert sorted(lake.scan("items").collect()["title"]) == ["Deux", "One", "Three"]
    assert lake.scan("quarantine").collect().height == 2


def test_items_whose_row_of_files_a_kill_prevented_get_it_when_their_raw_file_is_gone(monkeypatch, lake, tmp_path):
    path = tmp_path / "raw" / "items" / "a.csv"
    path.parent.mkdir()
    path.write_text(LINES["items/a.csv"])
    (tmp_path / "raw" / "log.csv").write_text(LINES["log.csv"])
    with monkeypatch.context() as patch:
        ends_at_commit(patch, COMMITS.index("items") + 1, done=True)
        with pytest.raises(Killed):
            take_all(tmp_path / "raw", lake)
    path.write_text(LINES["items/b.csv"])
    take_all(tmp_path / "raw", lake)
    rows_of_files = lake.scan("files").filter(kind="items").select("rows", "inserted", "duplicates").collect()
    assert sorted(rows_of_files.rows()) == [(3, 2, 0), (3, 2, 1)]


def test_of_two_ingests_of_one_item_file_the_slower_records_nothing(monkeypatch, lake, tmp_path):
    path = tmp_path / "raw" / "items" / "a.csv"
    path.parent.mkdir()
    path.write_text(LINES["items/a.csv"])
    (tmp_path / "raw" / "log.csv").write_text(LINES["log.csv"])
    parsed = item_files.parsed

    def overtaken(*arguments):
        monkeypatch.setattr(item_files, "parsed", parsed)
        take_all(tmp_path / "raw", lake)
        return parsed(*arguments)

    monkeypatch.setattr(item_files, "parsed", overtaken)
    take_all(tmp_path / "raw", lake)
    rows_of_files = lake.scan("files").filter(kind="items").select("rows", "inserted", "duplicates").collect()
    assert rows_of_files.rows() == [(3, 2, 0)]


def test_a_note_holds_the_rows():
    row = {"file": "abc", "rows": 3}
    assert json.loads(ledger.note([row])[ledger.NOTE]) == [row]


def test_a_lake_without_interactions_needs_no_healing(lake):
    ledger.heal(lake)
    assert not lake.exists("files")


def test_quarantine_takes_the_rows_of_a_file_once(lake):
    rows = pl.DataFrame({"row": [7], "column": ["user_id"], "reason": ["no user id"], "raw": [",x,1"]})
    for _ in range(2):
        ledger.quarantine(lake, [("sha", "log.csv", rows)])
    assert lake.scan("quarantine").collect().rows() == [("sha", "log.csv", 7, "user_id", "no user id", ",x,1")]
