"""Reads JSON lines with one typed decoder: a whole block at a time, and line by line where a block has a fault."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import polars as pl

from dealrec_core.ingest.raw.batch import FAULT, ROW, Batch
from dealrec_core.ingest.raw.blocks import Block

ESCAPED_NUL = b"\\u0000"


def batches(blocks: Iterable[Block], *, columns: list[str] | None) -> Iterator[Batch]:
    """Yields the records of a JSONL file; blank lines do not count.

    columns: the keys to read (all of the first record when None).
    """
    row = 1
    decoder: Any = None
    for block in blocks:
        content = block.content.removeprefix(b"\xef\xbb\xbf") if decoder is None else block.content
        if columns is None:
            columns = _keys(content)
        if decoder is None:
            decoder = msgspec.json.Decoder(_record_type(columns))
        if block.is_too_long:
            batch = _batch([content], [None], ["a line longer than 1 MiB"], row, columns)
        else:
            batch = _decoded(content, decoder, row, columns)
        row += batch.frame.height
        if batch.frame.height:
            yield batch


def _record_type(columns: list[str]) -> type[msgspec.Struct]:
    value = str | int | float | list[str | int | float] | None
    fields = [(f"c{place}", value, msgspec.field(name=name, default=None)) for place, name in enumerate(columns)]
    return msgspec.defstruct("Record", fields, gc=False)


def _keys(content: bytes) -> list[str]:
    for line in content.split(b"\n"):
        try:
            return list(msgspec.json.decode(line, type=dict[str, Any]))
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            continue
    return []


def _decoded(content: bytes, decoder: Any, row: int, columns: list[str]) -> Batch:
    lines = [line for line in content.split(b"\n") if line.strip()]
    # The decoder of lines accepts two records in one line, and one record over two lines.
    if ESCAPED_NUL not in content and content.count(b"}\n") == len(lines):
        try:
            records = decoder.decode_lines(content)
            if len(records) == len(lines):
                return _batch(lines, records, None, row, columns)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # some line has a fault: find out which
    results = [_line(line, decoder) for line in lines]
    return _batch(lines, [record for record, _ in results], [fault for _, fault in results], row, columns)


def _line(line: bytes, decoder: Any) -> tuple[Any, str | None]:
    if ESCAPED_NUL in line:
        return None, "a NUL character"
    try:
        return decoder.decode(line), None
    except RecursionError:
        return None, "not JSON: nested too deeply"
    except UnicodeError:
        return None, "not UTF-8"
    except msgspec.MsgspecError as error:
        return None, f"not JSON: {error}"


def _batch(
    lines: list[bytes], records: list[Any], faults: list[str | None] | None, row: int, columns: list[str]
) -> Batch:
    texts = {
        name: pl.Series([record and _text(getattr(record, f"c{place}")) for record in records], dtype=pl.String)
        for place, name in enumerate(columns)
    }
    fault = pl.Series(faults or [None] * len(lines), dtype=pl.String)
    frame = pl.DataFrame({ROW: pl.int_range(row, row + len(lines), eager=True), FAULT: fault, **texts})
    return Batch(frame, lambda place: lines[place].decode(errors="replace"))


def _text(value: Any) -> str | None:
    """A value as text: whole floats without their .0, a list as its JSON."""
    if value is None or type(value) is str:
        return value
    if type(value) is float and value.is_integer():
        return str(int(value))
    if type(value) is list:
        return msgspec.json.encode(value).decode()
    return str(value)
