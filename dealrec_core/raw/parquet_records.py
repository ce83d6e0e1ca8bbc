"""Parquet in bounded batches; ids become text, times and numbers keep their types."""

from collections.abc import Iterator
from typing import IO, Any, cast

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dealrec_core.raw.batch import FAULT, ROW, Batch, Unreadable, check_columns

BATCH_ROWS = 500_000
ROWS_A_BYTE = 8
HARMLESS_ROWS = 50_000_000
"""A file that claims more rows than this, and more than ROWS_A_BYTE of them for each of its bytes, is a bomb."""


def batches(file: IO[bytes], *, path: str, columns: list[str] | None) -> Iterator[Batch]:
    """The records of a Parquet file.

    Raises:
        Unreadable: it is not Parquet, damaged, or claims too many rows for its size.
        ColumnMissing: it lacks a wanted column.
    """
    try:
        opened = pq.ParquetFile(file)
        size = file.seek(0, 2)
        rows = opened.metadata.num_rows
        if rows > max(HARMLESS_ROWS, ROWS_A_BYTE * size):
            raise Unreadable(f"'{path}' claims {rows:,} rows in {size:,} bytes; write it again")
        check_columns(columns or [], opened.schema_arrow.names, path=path)
        row = 1
        for batch in opened.iter_batches(BATCH_ROWS, columns=columns and list(dict.fromkeys(columns))):
            frame = _typed(cast(pl.DataFrame, pl.from_arrow(batch)))
            yield Batch(_numbered(frame, row), _raw_of(frame))
            row += frame.height
    except (OSError, EOFError, ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise Unreadable(f"cannot read '{path}': {str(error).splitlines()[0]}; write it again") from error


def _numbered(frame: pl.DataFrame, row: int) -> pl.DataFrame:
    return frame.select(
        pl.int_range(row, row + frame.height, eager=True).alias(ROW),
        pl.lit(None, dtype=pl.String).alias(FAULT),
        pl.all(),
    )


def _typed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(_simple(frame[name]) for name in frame.columns)


def _simple(column: pl.Series) -> pl.Series:
    """Numbers, times and text as they are; lists and structs as JSON, the rest (categories, bytes, decimals) as text."""
    kind = column.dtype
    if kind == pl.String or kind.is_numeric() or kind in (pl.Datetime, pl.Date):
        return column
    if kind.is_nested():
        values = [
            None if value is None else msgspec.json.encode(value, enc_hook=str).decode() for value in column.to_list()
        ]
        return pl.Series(column.name, values, dtype=pl.String)
    return column.cast(pl.String, strict=False)


def _raw_of(frame: pl.DataFrame) -> Any:
    return lambda place: "|".join("" if value is None else str(value) for value in frame.row(place))
