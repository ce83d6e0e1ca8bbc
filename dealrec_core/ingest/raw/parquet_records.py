"""Reads Parquet in bounded batches; ids become text, times and numbers keep their types."""

from collections.abc import Iterator
from typing import IO, Any, cast

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dealrec_core.ingest.raw.batch import Batch, Unreadable, check_columns, numbered

BATCH_ROWS = 500_000
ROWS_A_BYTE = 8
HARMLESS_ROWS = 50_000_000
"""A file that claims more rows than this, and more than ROWS_A_BYTE of them for each of its bytes, is a bomb."""
BATCH_BYTES = 128 * 2**20
EXPANSION, HARMLESS_BYTES = 200, 2**30
"""A group of rows that unpacks to more than both of these is a bomb, as with other compressed files."""


def batches(file: IO[bytes], *, path: str, columns: list[str] | None) -> Iterator[Batch]:
    """Yields the records of a Parquet file.

    Raises:
        Unreadable: the file is not Parquet, is damaged, or claims too many rows for its size.
        ColumnMissing: the file lacks one of the columns.
    """
    try:
        opened = pq.ParquetFile(file)
        size = file.seek(0, 2)
        rows = opened.metadata.num_rows
        if rows > max(HARMLESS_ROWS, ROWS_A_BYTE * size):
            raise Unreadable(f"'{path}' claims {rows:,} rows in {size:,} bytes; write it again")
        names = opened.schema_arrow.names
        check_columns(columns or [], names, path=path, has_inner=True)
        read = columns and list(dict.fromkeys(name if name in names else name.split(".")[0] for name in columns))
        row = 1
        for batch in opened.iter_batches(_rows_at_once(opened, file, path, read), columns=read):
            batch.validate(full=True)  # text that is no UTF-8 would end the process later
            arrays = cast(pl.DataFrame, pl.from_arrow(_without_extensions(batch)))
            inner = [_inner(arrays, name) for name in columns or [] if name not in names]
            simple = [_simple(column, batch.schema.field(column.name).type) for column in arrays]
            frame = pl.DataFrame([*simple, *(_simple(column) for column in inner)])
            yield Batch(numbered(frame, row), _raw_of(frame), form="Parquet")
            row += frame.height
    except (OSError, EOFError, ValueError, pa.ArrowException, pl.exceptions.PolarsError) as error:
        raise Unreadable(f"cannot read '{path}': {str(error).splitlines()[0]}; write it again") from error


def count(file: IO[bytes]) -> int | None:
    """Returns the number of rows that a Parquet file says it holds, None where it does not say."""
    try:
        return int(pq.ParquetFile(file).metadata.num_rows)
    except (OSError, ValueError, pa.ArrowException):
        return None


def _rows_at_once(opened: pq.ParquetFile, file: IO[bytes], path: str, columns: list[str] | None) -> int:
    """The number of rows that fit into BATCH_BYTES, however long the values in the dictionaries are."""
    texts = [
        field.name for field in opened.schema_arrow if _is_text(field.type) and field.name in (columns or [field.name])
    ]
    coded = pq.ParquetFile(file, read_dictionary=texts)
    largest = BATCH_BYTES // BATCH_ROWS
    for number in range(opened.num_row_groups):
        group = opened.metadata.row_group(number)
        chunks = [group.column(place) for place in range(group.num_columns)]
        chunks = [chunk for chunk in chunks if columns is None or chunk.path_in_schema.split(".")[0] in columns]
        packed = sum(chunk.total_compressed_size for chunk in chunks)
        unpacked = sum(chunk.total_uncompressed_size for chunk in chunks)
        if unpacked > max(HARMLESS_BYTES, EXPANSION * packed):
            raise Unreadable(f"'{path}' unpacks to more than {EXPANSION} times its size; write it again if it is meant")
        repeated = sum(
            _longest(coded, number, chunk.path_in_schema)
            for chunk in chunks
            if chunk.has_dictionary_page and chunk.path_in_schema in texts
        )
        largest = max(largest, unpacked // max(group.num_rows, 1) + repeated)
    return max(BATCH_BYTES // largest, 1)


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_dictionary, types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(test(kind) for test in tests)


def _longest(coded: pq.ParquetFile, group: int, column: str) -> int:
    """Bytes of the longest value in the dictionary of a chunk: a few bytes can stand for it in every row."""
    for batch in coded.iter_batches(1, row_groups=[group], columns=[column]):
        values = batch.column(0)
        if pa.types.is_dictionary(values.type) and len(values.dictionary):
            return int(pc.max(pc.binary_length(values.dictionary)).as_py() or 0)
        break
    return 0


def _without_extensions(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The batch with plain bytes in the place of types such as UUID."""
    arrays = [column.storage if isinstance(column, pa.ExtensionArray) else column for column in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _inner(frame: pl.DataFrame, name: str) -> pl.Series:
    """The field that a name such as user.id or items.0.id means, null where there is none."""
    root, *path = name.split(".")
    column = frame[root]
    for key in path:
        if isinstance(column.dtype, pl.List) and key.isdigit():
            column = column.list.get(int(key), null_on_oob=True)
        elif isinstance(column.dtype, pl.Struct) and key in {field.name for field in column.dtype.fields}:
            column = column.struct.field(key)
        else:
            return pl.Series(name, [None] * frame.height, dtype=pl.String)
    return column.alias(name)


def _simple(column: pl.Series, kind_read: pa.DataType | None = None) -> pl.Series:
    """Numbers, times and text as they are; lists and structs as JSON, the rest (categories, bytes) as text."""
    kind = column.dtype
    if kind == pl.String or kind.is_numeric() or kind in (pl.Datetime, pl.Date):
        return column
    if kind.is_nested():
        values = [
            None if value is None else msgspec.json.encode(value, enc_hook=str).decode() for value in column.to_list()
        ]
        return pl.Series(column.name, values, dtype=pl.String)
    if kind == pl.Binary:
        return _text_of_bytes(column, is_uuid=getattr(kind_read, "extension_name", "") == "arrow.uuid")
    return column.cast(pl.String, strict=False)


def _text_of_bytes(column: pl.Series, *, is_uuid: bool) -> pl.Series:
    """Bytes as the text that all of them are in UTF-8; else as UUIDs where each has 16, or in hexadecimal digits."""
    try:
        text = column.cast(pl.String)
        if not is_uuid and not text.str.contains(r"[\x00-\x1f]").any():
            return text
    except pl.exceptions.PolarsError:  # some of the bytes are no UTF-8
        pass
    digits = column.bin.encode("hex")
    if not (column.bin.size() == 16).all():
        return digits
    parts = [digits.str.slice(start, length) for start, length in ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))]
    return pl.select(pl.concat_str(parts, separator="-")).to_series().alias(column.name)


def _raw_of(frame: pl.DataFrame) -> Any:
    return lambda place: "|".join("" if value is None else str(value) for value in frame.row(place))
