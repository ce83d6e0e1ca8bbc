"""Commits whose answer was lost, whose writer was overtaken, or who fail: what is in the table decides, not the answer."""

import errno
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError

from dealrec_core.errors import DiskFull, LakeError
from dealrec_core.ingest import interactions
from dealrec_core.lake import Conflict, Lake, damage, tables, upkeep
from dealrec_core.lake.commit import ATTEMPTS, commit, until_committed
from dealrec_core.lake.draft import Draft, change, open_draft
from dealrec_core.settings.sources import InteractionSource, SourcesConfig

SCHEMA = pl.Schema({"value": pl.Int64()})
NEW_YEAR = 1767225600  # 2026-01-01T00:00:00Z


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def rows(*values: int) -> pl.DataFrame:
    return pl.DataFrame({"value": list(values)}, schema=SCHEMA)


def values(lake: Lake) -> list[int]:
    return sorted(lake.scan("t").collect()["value"].to_list())


def add(draft: Draft, value: int) -> int:
    draft.write(rows(value))
    return draft.commit({})


class AnswerLost:
    """A handle on a table: its commits land, and are reported as failed, as by a store that lost its answer."""

    def __init__(self, handle: DeltaTable, error: Exception) -> None:
        self.handle, self.error = handle, error

    def __getattr__(self, name: str) -> object:
        return getattr(self.handle, name)

    def create_write_transaction(self, *arguments: object, **options: object) -> None:
        self.handle.create_write_transaction(*arguments, **options)  # type: ignore[arg-type]
        raise self.error


LOST = [CommitFailedError("Transaction failed: dealrec.appender was committed"), OSError("connection reset")]


@pytest.mark.parametrize("error", LOST, ids=["conflict with itself", "network"])
def test_a_commit_that_landed_and_was_reported_as_failed_counts_as_done_and_keeps_its_files(lake, error):
    draft = open_draft(lake, "t", schema=SCHEMA)
    draft.handle = AnswerLost(draft.handle, error)
    version = add(draft, 1)
    draft.discard()
    assert version == lake.version("t") == 1
    assert values(lake) == [1]


def test_an_ingest_whose_answer_was_lost_reports_what_it_wrote(lake, tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "log.csv").write_text(f"user_id,item_id,timestamp\na,x,{NEW_YEAR}\nb,y,{NEW_YEAR}\n,,\n")
    config = SourcesConfig(
        root=str(tmp_path / "raw"), interactions=InteractionSource(files=["*.csv"]), max_bad_fraction=1
    )
    answered = DeltaTable.create_write_transaction

    def lost(handle: DeltaTable, *arguments: object, **options: object) -> None:
        answered(handle, *arguments, **options)  # type: ignore[arg-type]
        raise CommitFailedError("it met itself")

    monkeypatch.setattr(DeltaTable, "create_write_transaction", lost)
    report = interactions.ingest(lake, config, through=date(2026, 1, 1), partition="day")
    assert (report.rows, report.inserted, report.quarantined) == (3, 2, 1)
    assert sorted(lake.scan("interactions").collect()["user_id"]) == ["a", "b"]
    assert lake.scan("files").collect()["inserted"].to_list() == [2]
    assert lake.scan("quarantine").collect().height == 1


def test_rows_that_are_appended_with_a_lost_answer_are_there_once(lake, monkeypatch):
    def lost(*arguments: object, **options: object) -> None:
        write_deltalake(*arguments, **options)  # type: ignore[arg-type]
        raise CommitFailedError("it met itself")

    monkeypatch.setattr(tables, "write_deltalake", lost)
    assert lake.append("t", rows(1), schema=SCHEMA) == 0
    assert lake.append("t", rows(2), schema=SCHEMA, transaction=("stage", 1)) == 1
    assert lake.append("t", rows(2), schema=SCHEMA, transaction=("stage", 1)) == 1
    assert lake.replace("t", rows(2, 2), schema=SCHEMA, where="value = 2") == 2
    assert values(lake) == [1, 2, 2]


def test_a_draft_that_was_overtaken_leaves_its_files_to_vacuum_and_its_change_lands_at_the_next_try(lake):
    seen: list[list[int]] = []

    def attempt(draft: Draft) -> int:
        seen.append(lake.scan("t", draft.handle.version()).collect()["value"].to_list())
        if len(seen) == 1:
            lake.append("t", rows(1), schema=SCHEMA)
        return add(draft, 2)

    assert change(lake, "t", attempt, schema=SCHEMA) == 2
    assert seen == [[], [1]]
    assert values(lake) == [1, 2]
    assert len(upkeep.data_files(lake, "t")) == 3  # one of them is in no version
    assert upkeep.vacuum(lake, "t", keep=set(), retention_hours=0) == 1


def test_files_that_were_written_before_an_attempt_failed_are_removed(lake):
    def attempt(draft: Draft) -> None:
        draft.write(rows(1))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change(lake, "t", attempt, schema=SCHEMA)
    assert upkeep.data_files(lake, "t") == []


def test_a_data_file_whose_write_failed_is_removed_and_the_error_stays(lake, monkeypatch):
    def full(_: pl.DataFrame, path: Path, **__: object) -> None:
        path.write_bytes(b"PAR1, and then no space")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(DiskFull, match="is full"):
        change(lake, "t", lambda draft: add(draft, 1), schema=SCHEMA)
    assert upkeep.data_files(lake, "t") == []


def test_a_file_whose_write_failed_leaves_neither_itself_nor_its_beginning(lake, monkeypatch):
    lake.write_bytes("nights/a.json", b"1")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="is full"):
        lake.write_bytes("nights/a.json", b"2")
    assert lake.list_paths("nights") == ["nights/a.json"]
    assert lake.read_bytes("nights/a.json") == b"1"


def test_an_interrupt_during_a_commit_removes_no_file_that_the_commit_may_have_added(lake, monkeypatch):
    answered = DeltaTable.create_write_transaction

    def interrupted(handle: DeltaTable, *arguments: object, **options: object) -> None:
        answered(handle, *arguments, **options)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DeltaTable, "create_write_transaction", interrupted)
        with pytest.raises(KeyboardInterrupt):
            change(lake, "t", lambda draft: add(draft, 1), schema=SCHEMA)
    assert values(lake) == [1]


def test_a_commit_that_fails_without_another_writer_is_an_error_and_is_not_tried_again(lake):
    lake.append("t", rows(1), schema=SCHEMA)
    tries = []

    def attempt() -> int:
        def write(**_: object) -> None:
            tries.append(1)
            raise DeltaError("disk full")

        return commit(lake, "t", lake.open("t"), write)

    with pytest.raises(LakeError, match="cannot write table 't' in .*: disk full") as raised:
        until_committed("t", attempt)
    assert not isinstance(raised.value, Conflict)
    assert len(tries) == 1


def test_a_writer_gives_up_after_a_bounded_number_of_attempts(lake):
    tries = []

    def attempt() -> None:
        tries.append(1)
        raise Conflict("faster")

    with pytest.raises(LakeError, match=f"other writers of 't' were faster {ATTEMPTS} times; run it again"):
        until_committed("t", attempt)
    assert len(tries) == ATTEMPTS


def test_a_table_that_another_writer_makes_meanwhile_is_asked_for_the_transaction_before_anything_is_written(
    lake, monkeypatch
):
    opened = Lake.open

    def overtaken(self: Lake, table: str) -> DeltaTable | None:
        handle = opened(self, table)
        monkeypatch.setattr(Lake, "open", opened)
        lake.append("t", rows(1), schema=SCHEMA, transaction=("stage", 1))
        return handle

    monkeypatch.setattr(Lake, "open", overtaken)
    assert lake.append("t", rows(1), schema=SCHEMA, transaction=("stage", 1)) == 0
    assert values(lake) == [1]


def synced_by(lake: Lake, monkeypatch: pytest.MonkeyPatch, write: Callable[[], int]) -> tuple[list[str], int]:
    """The files and folders, as paths below the root, that a write has waited for, and its version."""
    synced: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: synced.append(os.readlink(f"/proc/self/fd/{file}")))
        version = write()
    return [os.path.relpath(path, lake.root) for path in synced], version


def test_data_files_are_on_the_disk_before_the_commit_that_names_them_and_then_that_commit(lake, monkeypatch):
    draft = open_draft(lake, "t", schema=SCHEMA)
    draft.write(rows(1))
    (data,) = upkeep.data_files(lake, "t")
    synced, version = synced_by(lake, monkeypatch, lambda: draft.commit({}))
    assert synced[:6] == [data, "t", ".", f"t/_delta_log/{version:020}.json", "t/_delta_log", "t"]


def test_every_write_waits_for_its_data_its_commit_and_their_folders(lake, monkeypatch):
    writes = {
        "new": lambda: lake.append("t", rows(1), schema=SCHEMA),
        "append": lambda: lake.append("t", rows(2), schema=SCHEMA),
        "replace": lambda: lake.replace("t", rows(2, 2), schema=SCHEMA, where="value = 2"),
        "compact": lambda: upkeep.compact(lake, "t", file_mib=1) and lake.version("t"),
    }
    before: set[str] = set()
    for name, write in writes.items():
        synced, version = synced_by(lake, monkeypatch, write)
        added = set(upkeep.data_files(lake, "t")) - before
        before |= added
        assert added | {f"t/_delta_log/{version:020}.json", "t/_delta_log", "t", "."} <= set(synced), name
        assert damage.counted(lake, "t") == (version, lake.read_bytes(damage.log("t", version)))


def test_a_small_file_waits_for_itself_and_every_folder_above_it(lake, monkeypatch):
    synced, _ = synced_by(lake, monkeypatch, lambda: lake.write_bytes("nights/a/stages/x.json", b"1") or 0)
    assert synced[1:] == ["nights/a/stages", "nights/a", "nights", "."]
