"""Reads JSON lines with one typed decoder: a whole block at a time, and line by line where a block has a fault."""

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import msgspec
import polars as pl

from dealrec_core.ingest.raw import json_stream
from dealrec_core.ingest.raw.batch import FAULT, ROW, Batch
from dealrec_core.ingest.raw.blocks import Block

EXACT = 2**53
"""Larger whole numbers are not exact as floats: they keep their form, which tells that they are rounded."""
ESCAPED_NUL = b"\\u0000"
WRAPPED = {"$date", "$oid", "$numberLong", "$numberInt", "$numberDouble", "$numberDecimal", "$uuid", "$symbol"}
"""Keys of MongoDB's extended JSON whose value stands for the object around it."""
SEVERAL = ("trailing characters", "got `array`")
"""In the decoder's message where another value follows in the line, or a list of some begins it."""
ENVELOPE = re.compile(rb"\s*\{[^][{}]*\[\s*\{")
"""The beginning of an object up to the first of a list of objects in it."""
PYTHON_FAULTS = (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, msgspec.MsgspecError)


def batches(blocks: Iterable[Block], *, columns: list[str] | None, needed: list[str] | None = None) -> Iterator[Batch]:
    """Yields the records of a JSONL file; blank lines do not count.

    columns: the keys to read (all of the first record when None); a key with dots such as user.id also names a nested one.
    needed: an object with none of these keys, and with one list of objects, is an envelope: the objects in it are the records.
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
            batch, lines = _decoded(_lines(content), decoder, row, columns)
            if opened := _without_envelopes(lines, batch.frame, needed or []):
                batch, _ = _decoded(opened, decoder, row, columns)
        row += batch.frame.height
        if batch.frame.height:
            # A last line without its end that is a whole object is complete; another one may still be growing.
            is_open = block.is_open and batch.frame[FAULT][-1] is not None
            yield replace(batch, form=f"JSON, {block.encoding}", is_open=is_open)


def _record_type(columns: list[str]) -> type[msgspec.Struct]:
    """A record with a field for each column, and one for the first part of each name with dots."""
    fields = [(f"c{place}", Any, msgspec.field(name=name, default=None)) for place, name in enumerate(columns)]
    roots = {name.split(".")[0] for name in columns if "." in name} - set(columns)
    fields += [(f"r{_number(root)}", Any, msgspec.field(name=root, default=None)) for root in sorted(roots)]
    return msgspec.defstruct("Record", fields, gc=False)


def _number(root: str) -> str:
    return root.encode().hex()


def _keys(content: bytes) -> list[str]:
    for line in content.split(b"\n"):
        record = _loosely(line)
        if isinstance(record, dict):
            return [str(key) for key in record]
    return []


def _lines(content: bytes) -> list[bytes]:
    lines = [line for line in content.split(b"\n") if line.strip()]
    if b"}{" in content or b"} {" in content:
        lines = [part for line in lines for part in _parts(line)]
    return lines


def _without_envelopes(lines: list[bytes], frame: pl.DataFrame, needed: list[str]) -> list[bytes] | None:
    """The lines with those of the objects in an envelope, such as {"events": [...]}, in its place; None where there is none."""
    if not needed:
        return None
    fields = [name for name in needed if name in frame.columns]
    places = frame.select(pl.all_horizontal(pl.col(FAULT, *fields).is_null()).arg_true()).to_series()
    opened = {place: inner for place in places if (inner := _inner_objects(lines[place], needed))}
    if not opened:
        return None
    return [part for place, line in enumerate(lines) for part in opened.get(place, [line])]


def _inner_objects(line: bytes, needed: list[str]) -> list[bytes]:
    try:
        record = json.loads(line)
    except PYTHON_FAULTS:  # some object in it is damaged
        return _several(line, "", needed)
    if not isinstance(record, dict) or any(key in record for name in needed for key in (name, name.split(".")[0])):
        return []
    lists = [value for value in record.values() if isinstance(value, list) and value]
    lists = [entries for entries in lists if all(isinstance(entry, dict) for entry in entries)]
    return [json.dumps(entry).encode() for entry in lists[0]] if len(lists) == 1 else []


def _decoded(lines: list[bytes], decoder: Any, row: int, columns: list[str]) -> tuple[Batch, list[bytes]]:
    """The records of lines, and the lines with each of several objects in one line apart."""
    content = b"\n".join([*lines, b""])
    # The decoder of lines accepts two records in one line, and one record over two lines.
    if ESCAPED_NUL not in content and content.count(b"}\n") == len(lines):
        try:
            records = decoder.decode_lines(content)
            if len(records) == len(lines):
                return _batch(lines, records, None, row, columns), lines
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # some line has a fault: find out which
    results = [_line(line, decoder) for line in lines]
    parts = [
        _several(line, fault, columns) if fault else [line] for line, (_, fault) in zip(lines, results, strict=True)
    ]
    if any(len(several) > 1 for several in parts):
        lines = [part for several in parts for part in several]
        results = [_line(line, decoder) for line in lines]
    records, faults = [record for record, _ in results], [fault for _, fault in results]
    return _batch(lines, records, faults, row, columns), lines


def _several(line: bytes, fault: str, columns: list[str]) -> list[bytes]:
    """The records of a line with a fault: objects one after the other, a list of them, a damaged envelope with its objects apart."""
    envelope = ENVELOPE.match(line)
    if envelope and not any(f'"{name.split(".")[0]}"'.encode() in envelope[0] for name in columns):
        return [envelope[0][:-1], *_parts(line[envelope.end() - 1 :])]
    return _parts(line) if any(words in fault for words in SEVERAL) else [line]


def _parts(line: bytes) -> list[bytes]:
    """The objects of a line that may hold several."""
    return b"".join(json_stream.lines(iter([line]))).split(b"\n")[:-1] if line.count(b"{") > 1 else [line]


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
        record = _loosely(line)
        if isinstance(record, dict):
            return msgspec.convert({str(key): value for key, value in record.items()}, decoder.type, strict=False), None
        return None, f"not JSON: {error}"


def _loosely(line: bytes) -> Any:
    """The object of a line that only Python takes for JSON (NaN), or that is a Python dictionary with single quotes."""
    try:
        text = line.decode().strip()
    except UnicodeError:
        return None
    if not text.startswith("{"):
        return None
    read: Callable[[str], Any] | None = None
    if "'" in text or any(word in text for word in ("None", "True", "False")):
        read = ast.literal_eval
    if "NaN" in text or "Infinity" in text:
        read = json.loads
    try:
        return read(text) if read else msgspec.json.decode(text)
    except PYTHON_FAULTS:
        return None


def _batch(
    lines: list[bytes], records: list[Any], faults: list[str | None] | None, row: int, columns: list[str]
) -> Batch:
    texts = {name: pl.Series(_column(records, place, name), dtype=pl.String) for place, name in enumerate(columns)}
    fault = pl.Series(faults or [None] * len(lines), dtype=pl.String)
    frame = pl.DataFrame({ROW: pl.int_range(row, row + len(lines), eager=True), FAULT: fault, **texts})
    return Batch(frame, lambda place: lines[place].decode(errors="replace"))


def _column(records: list[Any], place: int, name: str) -> list[str | None]:
    field = f"c{place}"
    values = [None if record is None else _text(getattr(record, field)) for record in records]
    root, *path = name.split(".")
    if not path or any(value is not None for value in values):
        return values
    field = f"r{_number(root)}"
    return [None if record is None else _text(_inner(getattr(record, field, None), path)) for record in records]


def _inner(value: Any, path: list[str]) -> Any:
    """The value that a path of keys leads to; a number in it is the place in a list."""
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _text(value: Any) -> str | None:
    """A value as text: whole floats without their .0, a list or object as its JSON."""
    if value is None or type(value) is str:
        return value
    if type(value) is float and not (value.is_integer() and abs(value) < EXACT):
        return str(value) if math.isfinite(value) else None
    if type(value) is float:
        return str(int(value))
    if type(value) is dict and len(value) == 1 and (key := next(iter(value))) in WRAPPED:
        return _text(value[key])
    if type(value) in (list, dict, tuple, set):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return str(value)
