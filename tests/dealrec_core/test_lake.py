import subprocess
import sys

import polars as pl
import pytest

from dealrec_core.errors import DataError, LakeError, NightBusy
from dealrec_core.lake import Lake, lock

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
    assert lake.transaction_version("t", "file") == 6
    assert lake.transaction_version("t", "other") is None


def test_replacing_one_night_leaves_the_others(lake):
    lake.append("t", rows("a", 1), schema=SCHEMA)
    lake.replace("t", rows("b", 2), schema=SCHEMA, where="night = 'b'")
    lake.replace("t", rows("b", 3), schema=SCHEMA, where="night = 'b'")
    assert values(lake) == [1, 3]


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
