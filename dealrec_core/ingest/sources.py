"""Finds raw files, hashes them and reads their records."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import IO, Any
from urllib.parse import unquote

import fsspec

from dealrec_core.errors import SourceError
from dealrec_core.ingest.raw import blocks, container, csv_records, json_records, json_stream
from dealrec_core.ingest.raw.batch import FAULT, ROW, Batch, Unreadable
from dealrec_core.ingest.raw.blocks import Block
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
    """Returns the files below `root` that match a pattern, sorted by path, without those that `hidden` returns.

    Raises:
        SourceError: the root or bucket cannot be read.
    """
    return _matching(root, patterns)[0]


def hidden(root: str, patterns: list[str]) -> list[RawFile]:
    """Returns the files that match a pattern but are no data by their names: _SUCCESS, .crc, .tmp and what begins with . or _.

    A pattern that itself begins with such a letter, or ends so, means them.
    """
    return _matching(root, patterns)[1]


def _matching(root: str, patterns: list[str]) -> tuple[list[RawFile], list[RawFile]]:
    try:
        files, base = fsspec.url_to_fs(root.rstrip("/"), **fsspec_options(root))
        if not files.exists(base):
            raise SourceError(f"no folder or bucket '{root}'; set sources.root")
        infos: dict[str, dict[str, Any]] = {}
        for pattern in patterns:
            infos |= files.glob(f"{base}/{pattern}", detail=True)
        data: list[RawFile] = []
        others: list[RawFile] = []
        for name, info in sorted(infos.items()):
            if info["type"] == "file":
                part = others if _is_hidden(name.removeprefix(base).strip("/"), patterns) else data
                part.append(RawFile(files.unstrip_protocol(name), _stamp(info), int(info["size"])))
        return data, others
    except SourceError:
        raise
    except Exception as error:  # botocore's faults share no base with OSError
        raise SourceError(f"cannot read '{root}': {line(error)}; check sources.root and the AWS_* variables") from error


def _is_hidden(name: str, patterns: list[str]) -> bool:
    parts = [part for pattern in patterns for part in pattern.split("/")]
    if name.lower().endswith(UNFINISHED) and not any(part.endswith(UNFINISHED) for part in parts):
        return True
    return any(
        part[0] in "._" and "=" not in part and not any(other.startswith(part[0]) for other in parts)
        for part in name.split("/")
        if part
    )


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


def content_hash(path: str, *, first: int | None = None) -> str:
    """Returns the sha256 of a file's bytes: the file's identity, whatever its name.

    first: how many bytes are read, all when None.

    Raises:
        SourceError: the file cannot be read.
    """
    try:
        with fsspec.open(path, "rb", **fsspec_options(path)) as file:
            digest = hashlib.sha256()
            rest = first
            while chunk := file.read(HASHED_BYTES if rest is None else min(rest, HASHED_BYTES)):
                digest.update(chunk)
                rest = None if rest is None else rest - len(chunk)
            return digest.hexdigest()
    except Exception as error:  # as in find
        raise SourceError(f"cannot read '{path}': {line(error)}; check its rights") from error


def batches(
    path: str,
    *,
    columns: list[str] | None = None,
    options: ReaderOptions | None = None,
    chunk_bytes: int | None = None,
) -> Iterator[Batch]:
    """Yields the records of a CSV, JSON or Parquet file, plain or packed, in batches of bounded size.

    columns: the raw columns to read, all when None. chunk_bytes: text that is read at a time, where a look needs little.

    Raises:
        SourceError: the file cannot be opened, or (Unreadable) its content is broken.
        ColumnMissing: the file lacks one of the columns.
    """
    options = options or ReaderOptions()
    with _opened(path) as file:
        content = container.unpack(file, path)
        chunks = content.chunks(chunk_bytes)
        first = next(chunks, b"")
        container.refuse(first[: container.HEAD_BYTES], path)
        if content.packing and (inner := container.packing_of(first)):
            raise Unreadable(f"'{path}' is packed twice ({inner} in {content.packing}); unpack it once")
        for batch in _of_content(chain([first], chunks), first, content, columns, options):
            if content.packing:  # a packed file has an end of its own
                batch = replace(batch, form=f"{batch.form}, {content.packing}", is_open=False)
            yield batch


def _of_content(
    chunks: Iterator[bytes],
    first: bytes,
    content: container.Unpacked,
    columns: list[str] | None,
    options: ReaderOptions,
) -> Iterator[Batch]:
    path = content.path
    if options.format == "parquet" or (options.format == "auto" and _is_parquet(first, path)):
        from dealrec_core.ingest.raw import parquet_records  # pyarrow takes a tenth of a second to import

        if not content.packing:
            yield from parquet_records.batches(content.packed, path=path, columns=columns)
            return
        with container.spooled(chunks) as spool:
            yield from parquet_records.batches(spool, path=path, columns=columns)
        return
    lines, is_json = _lines(chunks, path, options)
    if is_json:
        yield from json_records.batches(lines, columns=columns, needed=options.needed)
        return
    yield from csv_records.batches(
        lines, path=path, columns=columns, delimiter=options.delimiter, header=options.header,
        quote=options.quote, escape=options.escape,
    )  # fmt: skip


def _lines(chunks: Iterator[bytes], path: str, options: ReaderOptions) -> tuple[Iterator[Block], bool]:
    """The lines of a text file, and whether they are JSON: then each holds one object."""
    text, encoding = blocks.text(chunks, options.encoding)
    head = next(text, b"")
    text = chain([head], text)
    is_json = options.format == "json" or (options.format == "auto" and _is_json(head, path))
    if is_json and json_stream.is_stream(head):
        text = json_stream.lines(text)
    return blocks.lines(text, encoding), is_json


def _opened(path: str) -> IO[bytes]:
    try:
        return fsspec.open(path, "rb", **fsspec_options(path)).open()
    except Exception as error:  # as in find
        raise SourceError(f"cannot read '{path}': {line(error)}; check its rights") from error


def count_rows(path: str, options: ReaderOptions) -> int | None:
    """Returns how many rows a file that cannot be read holds, as far as it can be told, None where nothing can.

    Lines count as far as the file can be unpacked; for the rest they are estimated by its share of the bytes.
    """
    with _opened(path) as file:
        try:
            content = container.unpack(file, path)
            chunks = container.salvaged(file, content.packing) if content.packing != "zip" else content.chunks()
            chunks = chunks if content.packing else content.chunks()
            first = next(chunks, b"")
            if options.format == "parquet" or (options.format == "auto" and _is_parquet(first, path)):
                from dealrec_core.ingest.raw import parquet_records

                return parquet_records.count(file) if not content.packing else None
            container.refuse(first[: container.HEAD_BYTES], path)
            lines, is_json = _lines(chain([first], chunks), path, options)
            rows = sum(map(_rows_of, lines))
        except Unreadable:
            return None
        read, size = file.tell(), file.seek(0, 2)
    if not rows:
        return None
    return max(round(rows * size / read) - (options.header is None and not is_json), 1)


def _rows_of(block: Block) -> int:
    return 1 if block.is_too_long else sum(1 for text in block.content.split(b"\n") if text.strip())


def _is_parquet(first: bytes, path: str) -> bool:
    return first.startswith(b"PAR1") or _plain_name(path).endswith((".parquet", ".pq"))


def _is_json(head: bytes, path: str) -> bool:
    """Whether text is JSON: it begins with an object or an array of objects, or its name says so."""
    text = head[: 2**16].lstrip()
    inner = text[1:].lstrip()[:1]
    if text.startswith(b"{") and inner in (b'"', b"'", b"}"):
        return True
    if text.startswith(b"[") and inner in (b"{", b"]"):
        return True
    return _plain_name(path).endswith((".jsonl", ".ndjson", ".json"))


def _plain_name(path: str) -> str:
    """The name without the ending of its packing."""
    name = path.lower()
    return next((name.removesuffix(end) for end in container.SUFFIXES if name.endswith(end)), name)


def records(path: str, *, columns: list[str] | None = None, options: ReaderOptions | None = None) -> Iterator[Record]:
    """Yields the records of a raw file one by one: for small files, or a few records."""
    for batch in batches(path, columns=columns, options=options):
        for place, fields in enumerate(batch.frame.iter_rows(named=True)):
            yield Record(fields.pop(ROW), fields, batch.raw(place), fields.pop(FAULT))


def raw_record(path: str, row: int, options: ReaderOptions | None = None) -> str:
    """Returns the text of one record of a raw file.

    Raises:
        SourceError: the file is gone or has fewer records.
    """
    for batch in batches(path, options=options):
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
UNFINISHED = (".crc", ".tmp", ".inprogress", ".md5", ".sha256", "_$folder$")
"""Endings of files that lie beside data, or are still being written."""
