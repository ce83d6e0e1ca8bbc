"""Finds raw files, hashes them and reads their records."""

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
from dealrec_core.settings.sources import ReaderOptions, SourcesConfig


@dataclass(frozen=True)
class RawFile:
    """A file below the root. Two looks that give the same stamp are taken to mean the same content."""

    path: str
    stamp: str
    size_bytes: int


@dataclass(frozen=True)
class Record:
    """One record of a raw file: its number (1-based, header not counted) and its fields, or the fault it has instead."""

    row: int
    fields: dict[str, Any]
    raw: str
    fault: str | None = None


def find(root: str, patterns: list[str]) -> list[RawFile]:
    """Returns the files below `root` that match a pattern, sorted by path.

    Raises:
        SourceError: the root or bucket cannot be read.
    """
    try:
        files, base = fsspec.url_to_fs(root.rstrip("/"), **fsspec_options(root))
        if not files.exists(base):
            raise SourceError(f"no folder or bucket '{root}'; set sources.root")
        infos: dict[str, dict[str, Any]] = {}
        for pattern in patterns:
            infos |= files.glob(f"{base}/{pattern}", detail=True)
        return [
            RawFile(files.unstrip_protocol(name), _stamp(info), int(info["size"]))
            for name, info in sorted(infos.items())
            if info["type"] == "file"
        ]
    except SourceError:
        raise
    except Exception as error:  # botocore's faults share no base with OSError
        raise SourceError(f"cannot read '{root}': {line(error)}; check sources.root and the AWS_* variables") from error


def no_file(config: SourcesConfig) -> SourceError:
    """Returns the error to raise when `find` has found no file of interactions."""
    return SourceError(
        f"no file in '{config.root}' matches {config.interactions.files}; set sources.interactions.files"
    )


def stamp(path: str) -> str:
    """Returns a file's stamp as it is now ('' when the file is gone)."""
    files, name = fsspec.url_to_fs(path, **fsspec_options(path))
    files.invalidate_cache()
    return _stamp(files.info(name)) if files.exists(name) else ""


def content_hash(path: str) -> str:
    """Returns the sha256 of a file's bytes: the file's identity, whatever its name.

    Raises:
        SourceError: the file cannot be read.
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
    """Yields the records of a CSV, JSONL or Parquet file, plain or .gz, .zst or .bz2, in batches of bounded size.

    columns: the raw columns to read, all when None.

    Raises:
        SourceError: the file cannot be opened, its format cannot be told, or (Unreadable) its content is broken.
        ColumnMissing: the file lacks one of the columns.
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
    """Yields the records of a raw file one by one: for small files, or a few records."""
    for batch in batches(path, columns=columns, options=options):
        for place, fields in enumerate(batch.frame.iter_rows(named=True)):
            yield Record(fields.pop(ROW), fields, batch.raw(place), fields.pop(FAULT))


def raw_record(path: str, row: int) -> str:
    """Returns the text of one record of a raw file.

    Raises:
        SourceError: the file is gone or has fewer records.
    """
    for batch in batches(path):
        places = (batch.frame[ROW] == row).arg_true()
        if len(places):
            return batch.raw(places[0])
    raise SourceError(f"'{path}' has no record {row}; was it changed after it was ingested?")


def folder_values(path: str) -> dict[str, str]:
    """Returns the columns in the names of a path's folders, as in day=2026-01-01/log.csv."""
    pairs = (part.split("=", 1) for part in path.split("/")[:-1] if "=" in part)
    return {name: unquote(value) for name, value in pairs if name}


def _stamp(info: dict[str, Any]) -> str:
    changed = info.get("ETag") or info.get("mtime") or info.get("LastModified") or ""
    return f"{info['size']}-{changed}"


HASHED_BYTES = 2**22
