"""A full disk: every error says what is full, how much is free and what to do, and nothing is lost."""

import errno
from pathlib import Path

import polars as pl
import pytest

from dealrec_core.errors import DiskFull
from dealrec_core.lake import Lake, draft, space
from dealrec_core.schema import INFLUENCES

TOLD = (
    r"the disk of .* is full, [\d,.]+ MiB are free; free some space there and run it again: what was finished is kept"
)
ROWS = pl.DataFrame({"night": ["n"], "sample_id": ["s"], "influence": [0.5]}).select(INFLUENCES.names())


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(str(tmp_path / "lake"))
    lake.append("influences", ROWS, schema=INFLUENCES)
    return lake


def test_a_small_file(lake, monkeypatch):
    lake.write_bytes("card.md", b"before")
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskFull, match=TOLD):
        lake.write_bytes("card.md", b"after")
    monkeypatch.undo()
    assert lake.read_bytes("card.md") == b"before"
    assert [path.name for path in Path(lake.root).iterdir() if path.name.startswith(".")] == []


def test_a_data_file_of_a_draft_as_the_table_reader_tells_it(lake, monkeypatch):
    """/dev/full is a disk without space: the text is that of the library."""
    write = pl.DataFrame.write_parquet
    monkeypatch.setattr(pl.DataFrame, "write_parquet", lambda frame, _, **options: write(frame, "/dev/full", **options))
    with pytest.raises(DiskFull, match=TOLD):
        draft.change(lake, "influences", lambda opened: opened.write(ROWS), schema=INFLUENCES)
    monkeypatch.undo()
    assert lake.append("influences", ROWS, schema=INFLUENCES) == 1


def test_a_commit_as_the_table_library_tells_it(lake, monkeypatch):
    def refused(*_: object, **__: object) -> None:
        raise OSError("Generic LocalFileSystem error: Unable to write: No space left on device (os error 28)")

    monkeypatch.setattr("dealrec_core.lake.tables.write_deltalake", refused)
    with pytest.raises(DiskFull, match=f"table 'influences' is as it was: {TOLD}"):
        lake.append("influences", ROWS, schema=INFLUENCES)
    monkeypatch.undo()
    assert lake.scan("influences").collect().height == 1


def test_the_place_with_the_least_space_is_named_and_other_errors_pass(tmp_path, monkeypatch):
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: type("Usage", (), {"free": len(str(path)) * 2**20}))
    with (
        pytest.raises(DiskFull, match=f"the disk of {tmp_path} is full"),
        space.watched(f"{tmp_path}", f"{tmp_path}/lake/there"),
    ):
        full()
    with (
        pytest.raises(DiskFull, match="the store of s3://bucket/lake has no space left"),
        space.watched("s3://bucket/lake"),
    ):
        full()
    with pytest.raises(ValueError, match="^else$"), space.watched(str(tmp_path)):
        raise ValueError("else")
