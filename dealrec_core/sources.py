"""Raw files: where they are, what their columns are called, and their records as text."""

import bz2
import csv
import gzip
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import fsspec
import msgspec
import polars as pl
import pyarrow.parquet as pq
import zstandard
from pydantic import BaseModel, ConfigDict, Field

from dealrec_core.errors import SourceError
from dealrec_core.lake import fsspec_options

BATCH_ROWS = 100_000


class InteractionSource(BaseModel):
    """Files of interactions and the names of their columns."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    files: list[str] = Field(min_length=1, title="Files")
    """Glob patterns below sources.root, such as log/**/*.csv.gz."""
    user_id: str = Field(default="user_id", title="User column")
    item_id: str = Field(default="item_id", title="Item column")
    timestamp: str = Field(default="timestamp", title="Time column")
    """Epoch seconds, milliseconds or microseconds, or ISO 8601; without a zone it is UTC."""
    rating: str | None = Field(default=None, title="Rating column")
    event_type: str | None = Field(default=None, title="Event type column")
    event_id: str | None = Field(default=None, title="Event id column")
    """Where there is none, events are told apart by user, item, time and type."""
    filter: str | None = Field(default=None, title="Filter")
    """Rows to take, over user_id, item_id, timestamp, rating and event_type, for example rating >= 4."""


class ItemSource(BaseModel):
    """Files of items and the names of their columns."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    files: list[str] = Field(min_length=1, title="Files")
    item_id: str = Field(default="item_id", title="Item column")
    title: str = Field(default="title", title="Title column")
    categories: str | None = Field(default=None, title="Categories column")
    categories_separator: str = Field(default="|", min_length=1, title="Separator inside categories")


class SourcesConfig(BaseModel):
    """Where raw files come from."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    root: str = Field(title="Root")
    """A folder, or s3://bucket/prefix."""
    interactions: InteractionSource
    items: ItemSource | None = None


@dataclass(frozen=True)
class RawFile:
    """A file found below the root, told apart by its content."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Record:
    """One record of a raw file: its number (1-based, header not counted), its fields as text, or why it has none."""

    row: int
    fields: dict[str, Any]
    raw: str
    fault: str | None = None


def find(root: str, patterns: list[str]) -> list[RawFile]:
    """The files below `root` that match, sorted by path, each with the hash of its bytes.

    Raises:
        SourceError: the root or bucket cannot be read, or nothing matches.
    """
    try:
        files, base = fsspec.url_to_fs(root.rstrip("/"), **fsspec_options(root))
        if not files.exists(base):
            raise SourceError(f"no folder or bucket '{root}'; set sources.root")
        names = sorted({name for pattern in patterns for name in files.glob(f"{base}/{pattern}") if files.isfile(name)})
        return [RawFile(files.unstrip_protocol(name), _sha256(files, name)) for name in names]
    except SourceError:
        raise
    except Exception as error:  # botocore's faults share no base with OSError
        raise SourceError(
            f"cannot read '{root}': {_line(error)}; check sources.root and the AWS_* variables"
        ) from error


def records(path: str, *, separator: str | None = None) -> Iterator[Record]:
    """The records of a CSV, JSONL or Parquet file, plain or .gz, .zst, .bz2; a broken record comes with its fault.

    Raises:
        SourceError: the file cannot be opened or is cut off.
    """
    plain = _plain_name(path)
    try:
        with fsspec.open(path, "rb", **fsspec_options(path)) as file:
            if plain.endswith((".parquet", ".pq")):
                yield from _parquet(file)
            elif plain.endswith((".jsonl", ".ndjson", ".json")):
                yield from _jsonl(_text(file, path))
            elif plain.endswith((".csv", ".tsv", ".txt", ".dat")):
                yield from _csv(_text(file, path), separator)
            else:
                raise SourceError(f"cannot tell the format of '{path}'; name it .csv, .tsv, .jsonl or .parquet")
    except (OSError, EOFError, zstandard.ZstdError, pl.exceptions.PolarsError, ValueError) as error:
        raise SourceError(f"cannot read '{path}': {_line(error)}; repair or remove the file") from error


def raw_record(path: str, row: int) -> str:
    """The text of one record of a raw file.

    Raises:
        SourceError: the file is gone or has fewer records.
    """
    for record in records(path):
        if record.row == row:
            return record.raw
    raise SourceError(f"'{path}' has no record {row}; was it changed after it was taken?")


def _csv(text: IO[str], separator: str | None) -> Iterator[Record]:
    lines = _Remembering(text)
    first = next(lines, None)
    if first is None:
        return
    delimiter = separator or _delimiter(first)
    names = next(csv.reader([first], delimiter=delimiter))
    lines.clear()
    reader = csv.reader(lines, delimiter=delimiter)
    row = 0
    while True:
        row += 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(row, {}, lines.take(), f"not CSV: {error}")
            continue
        raw = lines.take()
        if not values:
            row -= 1
            continue
        fault = None if len(values) >= _needed(names) else f"{len(values)} fields where the header has {len(names)}"
        yield Record(row, {name: value for name, value in zip(names, values, strict=False) if name}, raw, fault)


def _needed(names: list[str]) -> int:
    """Fields a record must have: stray nameless columns at the end do not count."""
    return max((place + 1 for place, name in enumerate(names) if name.strip()), default=0)


class _Remembering:
    """Lines of a file, keeping the text of those read since it was last taken."""

    def __init__(self, text: IO[str]) -> None:
        self._text = text
        self._kept: list[str] = []

    def __iter__(self) -> "_Remembering":
        return self

    def __next__(self) -> str:
        line = next(self._text)
        self._kept.append(line)
        return line

    def clear(self) -> None:
        self._kept.clear()

    def take(self) -> str:
        text = "".join(self._kept).rstrip("\r\n")
        self._kept.clear()
        return text


def _delimiter(header: str) -> str:
    return max(",\t;|", key=header.count)


def _jsonl(text: IO[str]) -> Iterator[Record]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    row = 0
    for line in text:
        raw = line.rstrip("\r\n")
        if not raw.strip():
            continue
        row += 1
        try:
            yield Record(row, decoder.decode(raw), raw)
        except (msgspec.MsgspecError, UnicodeError) as error:
            yield Record(row, {}, raw, f"not a JSON object: {_line(error)}")


def _parquet(file: IO[bytes]) -> Iterator[Record]:
    row = 0
    for batch in pq.ParquetFile(file).iter_batches(BATCH_ROWS):
        for fields in batch.to_pylist():
            row += 1
            yield Record(row, fields, "|".join(str(value) for value in fields.values()))


def _text(file: IO[bytes], path: str) -> IO[str]:
    if path.endswith(".gz"):
        opened: Any = gzip.GzipFile(fileobj=file)
    elif path.endswith(".zst"):
        opened = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    elif path.endswith(".bz2"):
        opened = bz2.BZ2File(file)
    else:
        opened = file
    return io.TextIOWrapper(opened, encoding="utf-8-sig", errors="replace", newline="")


def _plain_name(path: str) -> str:
    return path.lower().removesuffix(".gz").removesuffix(".zst").removesuffix(".bz2")


def _sha256(files: fsspec.AbstractFileSystem, name: str) -> str:
    with files.open(name, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
