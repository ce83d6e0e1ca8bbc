"""Raw files: where they are, what their columns are called, and their records."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import fsspec

from dealrec_core.errors import SourceError
from dealrec_core.ingest.raw import csv_records, json_records, parquet_records
from dealrec_core.ingest.raw.batch import FAULT, ROW, Batch
from dealrec_core.ingest.raw.blocks import blocks
from dealrec_core.lake.store import fsspec_options, line
from dealrec_core.settings.sources import ReaderOptions


@dataclass(frozen=True)
class RawFile:
    """A file found below the root; with the same stamp it is taken to have the same content."""

    path: str
    stamp: str
    size_bytes: int


@dataclass(frozen=True)
class Record:
    """One record of a raw file: its number (1-based, header not counted), its fields, or why it has none."""

    row: int
    fields: dict[str, Any]
    raw: str
    fault: str | None = None


def find(root: str, patterns: list[str]) -> list[RawFile]:
    """The files below `root` that match, sorted by path.

    Raises:
        SourceError: the root or bucket cannot be read.
    """
    try:
        files, base = fsspec.url_to_fs(root.rstrip("/"), **fsspec_options(root))
        if not files.exists(base):
            raise SourceError(f"no folder or bucket '{root}'; set sources.root")
        found: dict[str, dict[str, Any]] = {}
        for pattern in patterns:
            found |= files.glob(f"{base}/{pattern}", detail=True)
        return [
            RawFile(files.unstrip_protocol(name), _stamp(found[name]), int(found[name]["size"]))
            for name in sorted(found)
            if found[name]["type"] == "file"
        ]
    except SourceError:
        raise
    except Exception as error:  # botocore's faults share no base with OSError
        raise SourceError(f"cannot read '{root}': {line(error)}; check sources.root and the AWS_* variables") from error


def stamp(path: str) -> str:
    """What a file's stamp is now ('' when it is gone)."""
    files, name = fsspec.url_to_fs(path, **fsspec_options(path))
    files.invalidate_cache()
    return _stamp(files.info(name)) if files.exists(name) else ""


def content_hash(path: str) -> str:
    """The sha256 of a file's bytes: its identity, whatever its name.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        with fsspec.open(path, "rb", **fsspec_options(path)) as file:
            digest = hashlib.sha256()
            while chunk := file.read(HASHED_BYTES):
                digest.update(chunk)
            return digest.hexdigest()
    except Exception as error:  # as in find
        raise SourceError(f"cannot read '{path}': {line(error)}; check its rights") from error


def batches(path: str, *, columns: list[str] | None = None, options: ReaderOptions | None = None) -> Iterator[Batch]:
    """The records of a CSV, JSONL or Parquet file, plain or .gz, .zst or .bz2, in batches of bounded size.

    columns: the raw columns to give, all when None.

    Raises:
        SourceError: the file cannot be opened, its format cannot be told, or (Unreadable) its content is broken.
        ColumnMissing: it lacks a wanted column.
    """
    options = options or ReaderOptions()
    plain = path.lower().removesuffix(".gz").removesuffix(".zst").removesuffix(".bz2")
    try:
        opened = fsspec.open(path, "rb", **fsspec_options(path)).open()
    except Exception as error:  # as in find
        raise SourceError(f"cannot read '{path}': {line(error)}; check its rights") from error
    with opened as file:
        if plain.endswith((".parquet", ".pq")):
            yield from parquet_records.batches(file, path=path, columns=columns)
        elif plain.endswith((".jsonl", ".ndjson", ".json")):
            yield from json_records.batches(blocks(file, path), columns=columns)
        elif plain.endswith((".csv", ".tsv", ".txt", ".dat", ".data")):
            yield from csv_records.batches(
                blocks(file, path), path=path, columns=columns, delimiter=options.delimiter, header=options.header
            )
        else:
            raise SourceError(f"cannot tell the format of '{path}'; name it .csv, .tsv, .jsonl or .parquet")


def records(path: str, *, columns: list[str] | None = None, options: ReaderOptions | None = None) -> Iterator[Record]:
    """The records of a raw file one by one; for a few of them, or small files."""
    for batch in batches(path, columns=columns, options=options):
        for place, fields in enumerate(batch.frame.iter_rows(named=True)):
            yield Record(fields.pop(ROW), fields, batch.raw(place), fields.pop(FAULT))


def raw_record(path: str, row: int) -> str:
    """The text of one record of a raw file.

    Raises:
        SourceError: the file is gone or has fewer records.
    """
    for batch in batches(path):
        places = (batch.frame[ROW] == row).arg_true()
        if len(places):
            return batch.raw(places[0])
    raise SourceError(f"'{path}' has no record {row}; was it changed after it was taken?")


def folder_values(path: str) -> dict[str, str]:
    """Columns that the folders of a path carry, as in day=2026-01-01/log.csv."""
    pairs = (part.split("=", 1) for part in path.split("/")[:-1] if "=" in part)
    return {name: unquote(value) for name, value in pairs if name}


def _stamp(info: dict[str, Any]) -> str:
    changed = info.get("ETag") or info.get("mtime") or info.get("LastModified") or ""
    return f"{info['size']}-{changed}"


HASHED_BYTES = 2**22
