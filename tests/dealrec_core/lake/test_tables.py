import subprocess
import sys

import polars as pl
import pytest
from deltalake import Field
from deltalake.exceptions import DeltaError

from dealrec_core import schema
from dealrec_core.errors import DataError, LakeError, NightBusy
from dealrec_core.lake import Lake, lock
from dealrec_core.lake.draft import open_draft

SCHEMA = pl.Schema({"night": pl.String(), "value": pl.Int64()})


def rows(night: str, *values: int) -> pl.DataFrame:
    return pl.DataFrame({"night": [night] * len(values), "value": list(values)}, schema=SCHEMA)


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def values(lake: Lake, version: int | None = None) -> list[int]:
    return sorted(lake.scan("t", version).collect()["value"].to_list())


def test_a_table_that_was_never_written_has_no_version(lake):
    assert lake.version("t") == -1
    assert not lake.exists("t")
    with pytest.raises(LakeError, match="no table 't' in"):
        lake.scan("t")


def test_every_write_is_a_version_that_can_be_read_again(lake):
    assert lake.append("t", rows("a", 1), schema=SCHEMA) == 0
    assert lake.append("t", rows("a", 2), schema=SCHEMA) == 1
    assert values(lake) == [1, 2]
    assert values(lake, 0) == [1]


def test_rows_of_a_known_transaction_are_not_written_again(lake):
    lake.append("t", rows("a", 1), schema=SCHEMA, transaction=("file", 5))
    lake.append("t", rows("a", 1), schema=SCHEMA, transaction=("file", 5))
    lake.append("t", rows("a", 2), schema=SCHEMA, transaction=("file", 6))
    assert values(lake) == [1, 2]
    assert lake.open("t").transaction_version("file") == 6
    assert lake.open("t").transaction_version("other") is None


def test_replacing_one_night_leaves_the_others(lake):
    lake.append("t", rows("a", 1), schema=SCHEMA)
    lake.replace("t", rows("b", 2), schema=SCHEMA, where="night = 'b'")
    lake.replace("t", rows("b", 3), schema=SCHEMA, where="night = 'b'")
    assert values(lake) == [1, 3]


def test_a_stage_that_is_done_again_leaves_no_second_version(lake):
    first = lake.replace("t", rows("b", 2), schema=SCHEMA, where="night = 'b'", transaction=("b", 1))
    assert lake.replace("t", rows("b", 3), schema=SCHEMA, where="night = 'b'", transaction=("b", 1)) == first
    assert values(lake) == [2]


def test_a_frame_with_a_missing_column_is_refused_before_anything_is_written(lake):
    with pytest.raises(DataError, match="t lacks the column 'value'"):
        lake.append("t", rows("a", 1).drop("value"), schema=SCHEMA)
    assert not lake.exists("t")


def test_files_are_whole_and_listed_by_their_place(lake):
    lake.write_bytes("nights/a/x.json", b"1")
    lake.write_bytes("nights/a/x.json", b"22")
    assert lake.read_bytes("nights/a/x.json") == b"22"
    assert lake.list_paths("nights") == ["nights/a/x.json"]
    assert not lake.exists_path("nights/b")


def test_the_lock_is_free_again_when_its_holder_was_killed(lake, tmp_path):
    hold = f"""
import os, signal
from dealrec_core.lake import Lake, lock
with lock(Lake({lake.root!r}), home={str(tmp_path)!r}):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", hold]).returncode == -9
    with lock(lake, home=str(tmp_path)):
        pass


def test_the_lock_is_held_once(lake, tmp_path):
    with lock(lake, home=str(tmp_path)), pytest.raises(NightBusy, match="holds"), lock(lake, home=str(tmp_path)):
        pass


WIDER = pl.Schema({**SCHEMA, "note": pl.String()})


def wide_row(night: str, value: int, note: str) -> pl.DataFrame:
    return pl.DataFrame({"night": [night], "value": [value], "note": [note]}, schema=WIDER)


def add_by_append(lake: Lake, frame: pl.DataFrame, schema: pl.Schema) -> None:
    lake.append("t", frame, schema=schema)


def add_by_draft(lake: Lake, frame: pl.DataFrame, schema: pl.Schema) -> None:
    draft = open_draft(lake, "t", schema=schema)
    draft.write(frame)
    draft.commit({})


@pytest.mark.parametrize("add", [add_by_append, add_by_draft])
def test_a_new_column_comes_without_a_rewrite(lake, add):
    add(lake, rows("a", 1), SCHEMA)
    before = {path: lake.read_bytes(path) for path in lake.list_paths("t") if path.endswith(".parquet")}
    add(lake, wide_row("b", 2, "new"), WIDER)
    assert {path: lake.read_bytes(path) for path in before} == before
    table = lake.scan("t").sort("value").collect()
    assert table.select("night", "value", "note").rows() == [("a", 1, None), ("b", 2, "new")]
    assert lake.scan("t", 0).collect().columns == ["night", "value"]
    add(lake, rows("c", 3), SCHEMA)
    assert lake.scan("t").sort("value").collect()["note"].to_list() == [None, "new", None]


def test_two_drafts_that_add_the_same_column_at_once_both_land(lake):
    add_by_draft(lake, rows("a", 1), SCHEMA)
    stale = lake.open("t")
    first = open_draft(lake, "t", schema=WIDER)
    first.write(wide_row("b", 2, "x"))
    first.commit({})
    assert stale is not None
    with pytest.raises(DeltaError):
        stale.alter.add_columns([Field("note", "string")])
    add_by_draft(lake, wide_row("c", 3, "y"), WIDER)
    assert lake.scan("t").sort("value").collect()["note"].to_list() == [None, "x", "y"]


def test_the_log_of_a_table_is_kept_so_that_old_versions_stay_readable(lake):
    add_by_draft(lake, rows("a", 1), SCHEMA)
    handle = lake.open("t")
    assert handle is not None
    assert handle.metadata().configuration["delta.enableExpiredLogCleanup"] == "false"


@pytest.mark.parametrize("name", ["a lake", "see%20", "größe", "who?", "no#1"])
def test_a_root_that_table_readers_cannot_address_is_refused(tmp_path, name):
    with pytest.raises(LakeError, match="lake.root .* choose one of ASCII letters"):
        Lake(str(tmp_path / name))


def test_a_table_that_is_partitioned_in_another_way_is_told(tmp_path):
    lake = Lake(str(tmp_path))
    lake.append(
        "samples",
        pl.DataFrame({"a": [1], "period": ["2026"]}),
        schema=pl.Schema({"a": pl.Int64(), "period": pl.String()}),
    )
    with pytest.raises(LakeError, match="'samples' .* is not partitioned by period: an older dealrec made it"):
        open_draft(lake, "samples", schema=schema.SAMPLE_TABLE, partition="period")
    assert lake.version("samples") == 0
