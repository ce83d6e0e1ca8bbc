import io
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dealrec_core.ingest.raw import parquet_records
from dealrec_core.ingest.raw.batch import FAULT, ROW, ColumnMissing, Unreadable


def read(table: pl.DataFrame | pa.Table | bytes, columns=None) -> list[pl.DataFrame]:
    if isinstance(table, bytes):
        content = table
    else:
        out = io.BytesIO()
        table.write_parquet(out) if isinstance(table, pl.DataFrame) else pq.write_table(table, out)
        content = out.getvalue()
    return [batch.frame for batch in parquet_records.batches(io.BytesIO(content), path="x.parquet", columns=columns)]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["a"], pl.Categorical, ["a"]),
        ([Decimal("12345678901234567890.50")], pl.Decimal(30, 2), [Decimal("12345678901234567890.50")]),
        ([b"a"], pl.Binary, ["a"]),
        ([["a", "b"]], pl.List(pl.String), ['["a","b"]']),
        ([7], pl.UInt64, [7]),
        ([2**63 + 1], pl.UInt64, [2**63 + 1]),
        ([datetime(2026, 1, 1, tzinfo=UTC)], pl.Datetime("ms", "UTC"), [datetime(2026, 1, 1, tzinfo=UTC)]),
    ],
)
def test_numbers_and_times_keep_their_type_and_the_rest_becomes_text(values, dtype, expected):
    (frame,) = read(pl.DataFrame({"u": pl.Series(values, dtype=dtype)}))
    assert frame["u"].to_list() == expected


def test_records_are_numbered_through_all_batches(monkeypatch):
    monkeypatch.setattr(parquet_records, "BATCH_ROWS", 2)
    frames = read(pl.DataFrame({"u": ["a", "b", "c"], "x": [1, 2, 3]}), columns=["u"])
    assert [frame[ROW].to_list() for frame in frames] == [[1, 2], [3]]
    assert frames[0].columns == [ROW, FAULT, "u"]


def test_a_column_that_is_not_there_is_named():
    with pytest.raises(ColumnMissing, match="no column 't' in 'x.parquet', which has u"):
        read(pl.DataFrame({"u": ["a"]}), columns=["t"])


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all"])
def test_what_is_no_parquet_is_unreadable(content):
    with pytest.raises(Unreadable, match="cannot read 'x.parquet'"):
        read(content)


def test_more_rows_than_bytes_can_hold_are_a_bomb(monkeypatch):
    monkeypatch.setattr(parquet_records, "HARMLESS_ROWS", 100_000)
    with pytest.raises(Unreadable, match="claims 1,000,000 rows"):
        read(pl.DataFrame({"u": pl.Series(np.zeros(1_000_000, dtype=np.int8))}))


def test_a_long_value_in_a_dictionary_makes_the_batches_short(monkeypatch):
    monkeypatch.setattr(parquet_records, "BATCH_BYTES", 2**20)
    places = pa.array(np.zeros(100, dtype=np.int32))
    frames = read(pa.table({"u": pa.DictionaryArray.from_arrays(places, pa.array(["z" * 2**17]))}))
    assert max(frame.height for frame in frames) <= 8  # 8 x 128 KiB = 1 MiB
    assert sum(frame.height for frame in frames) == 100
