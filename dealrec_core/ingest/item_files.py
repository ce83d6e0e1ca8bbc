"""Ingests raw item files into the table `items`: one row per item, as the file that was ingested last has it."""

import ast
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any

import msgspec
import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.ingest import ids, sources
from dealrec_core.ingest.events import BAD_ROWS, RAW_LETTERS
from dealrec_core.ingest.raw.batch import FAULT, ROW, Batch, Unreadable
from dealrec_core.ingest.sources import RawFile
from dealrec_core.lake import Lake, ledger
from dealrec_core.lake.draft import Draft, change
from dealrec_core.lake.ledger import COUNTS, FINISHED, IngestReport
from dealrec_core.settings.sources import ItemSource, SourcesConfig

PARSED = pl.Schema({**schema.ITEMS, schema.RAW: pl.String(), schema.REASON: pl.String()})


def ingest_items(lake: Lake, config: SourcesConfig) -> IngestReport:
    """Writes the items of every item file that the lake does not have yet, in the order of their paths.

    Raises:
        ColumnMissing: a mapped column is not there.
        DataError: too many rows of a file are bad (sources.max_bad_fraction); nothing of it was written.
    """
    ledger.heal(lake)
    total = IngestReport()
    if config.items is None:
        return total
    table = lake.open("files")
    for file in sources.find(config.root, config.items.files):
        sha256 = sources.content_hash(file.path)
        if table is None or not table.transaction_version(ledger.row_transaction("items", sha256, FINISHED)):
            total += _ingest(lake, file, sha256, config)
    return total


def _ingest(lake: Lake, file: RawFile, sha256: str, config: SourcesConfig) -> IngestReport:
    assert config.items is not None
    good, bad, row = _read(file, sha256, config)
    if bad.height:
        ledger.quarantine(lake, [(sha256, file.path, bad)])
    counted = _upsert(lake, good, row)
    if counted is None:
        ledger.heal(lake)
        return IngestReport()
    ledger.write(lake, [counted])
    return ledger.report(counted)


def _read(file: RawFile, sha256: str, config: SourcesConfig) -> tuple[pl.DataFrame, pl.DataFrame, ledger.Row]:
    """The items of a file, its bad rows, and its row of `files`, in which new and repeated items are not counted yet."""
    assert config.items is not None
    rows = parsed(file, sha256, config.items)
    is_bad = pl.col(schema.REASON).is_not_null()
    bad = rows.filter(is_bad).with_columns(pl.lit(schema.ITEM_ID).alias(schema.COLUMN)).select(BAD_ROWS.names())
    check(rows, config, file)
    good = rows.filter(~is_bad).unique(schema.ITEM_ID, keep="last", maintain_order=True).select(schema.ITEMS.names())
    counts = {**dict.fromkeys(COUNTS, 0), "rows": rows.height, "quarantined": bad.height}
    place = {schema.FILE: sha256, "path": file.path, "stamp": file.stamp, "kind": "items", "through": "0001-01-01"}
    return good, bad, {**place, **counts, "number": FINISHED}


def again(lake: Lake, config: SourcesConfig, patterns: list[str]) -> IngestReport:
    """Makes the items anew from all item files that are there, where one of them matches a pattern; items of others stay.

    Raises:
        ColumnMissing, DataError: as in `ingest_items`; nothing was changed.
    """
    ledger.heal(lake)
    files = sources.find(config.root, config.items.files) if config.items else []
    named = {file.path for file in sources.find(config.root, patterns)}
    if not any(file.path in named for file in files):
        return IngestReport()
    hashes = {sources.content_hash(file.path): file for file in files}
    contents = {sha256: _read(file, sha256, config) for sha256, file in hashes.items()}
    readings = (
        lake.scan("files").filter(kind="items").collect() if lake.exists("files") else pl.DataFrame(schema=schema.FILES)
    )
    paths = [file.path for file in files]
    replaced = {*contents, *readings.filter(pl.col("path").is_in(paths))[schema.FILE]}
    bad = [(sha256, hashes[sha256].path, rows) for sha256, (_, rows, _) in contents.items() if rows.height]
    ledger.quarantine(lake, bad, replaced=replaced)

    def attempt(draft: Draft) -> list[ledger.Row]:
        present = lake.scan("items", draft.handle.version()).filter(~pl.col(schema.FILE).is_in(list(replaced)))
        items = present.select(schema.ITEMS.names()).collect()
        rows = []
        for good, _, row in contents.values():
            changed, items = _merged(items, good)
            rows.append({**row, **_counted(row, changed), "again": draft.handle.version() + 1})
        rows[0]["replaces"] = sorted(replaced)
        for path in draft.files()["path"]:
            draft.remove(path)
        draft.write(items.sort(schema.ITEM_ID))
        draft.commit(dict.fromkeys(replaced, 0) | dict.fromkeys(contents, 1), ledger.note(rows))
        return rows

    rows = change(lake, "items", attempt, schema=schema.ITEMS)
    ledger.write(lake, rows)
    return sum(map(ledger.report, rows), start=IngestReport())


def _merged(items: pl.DataFrame, good: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The items of a file that are new or changed, and all items with these."""
    same = [schema.ITEM_ID, schema.TITLE, schema.CATEGORIES]
    changed = good.join(items.select(same), on=same, how="anti", maintain_order="left")
    return changed, pl.concat([items.join(changed, on=schema.ITEM_ID, how="anti"), changed])


def _counted(row: ledger.Row, changed: pl.DataFrame) -> dict[str, int]:
    """The counts of new or changed items of a file, and of the others."""
    return {"inserted": changed.height, "duplicates": row["rows"] - row["quarantined"] - changed.height}


def check(rows: pl.DataFrame, config: SourcesConfig, file: RawFile) -> None:
    """Raises DataError when too many rows of an item file (PARSED) are bad."""
    reasons = rows[schema.REASON].drop_nulls()
    if len(reasons) > config.max_bad_fraction * rows.height:
        raise DataError(
            f"{len(reasons):,} of {rows.height:,} rows of '{file.path}' are bad, more than sources.max_bad_fraction = "
            f"{config.max_bad_fraction:g}; nothing of it was written. First: {reasons[0]}; correct it or [sources.items]"
        )


def _upsert(lake: Lake, good: pl.DataFrame, row: ledger.Row) -> ledger.Row | None:
    """Writes items that are new or changed, with a note of the file's row in `files`; returns that row with its counts.

    Returns None when another ingest has written the file.
    """

    def attempt(draft: Draft) -> ledger.Row | None:
        if draft.recorded(row[schema.FILE]):
            return None
        items = lake.scan("items", draft.handle.version()).select(schema.ITEMS.names()).collect()
        changed, merged = _merged(items, good)
        counted = {**row, **_counted(row, changed)}
        if changed.is_empty():
            return counted
        for path in draft.files()["path"]:
            draft.remove(path)
        draft.write(merged.sort(schema.ITEM_ID))
        draft.commit({row[schema.FILE]: 1}, ledger.note([counted]))
        return counted

    return change(lake, "items", attempt, schema=schema.ITEMS)


def parsed(file: RawFile, sha256: str, source: ItemSource, *, batches: int | None = None) -> pl.DataFrame:
    """Returns the items of a file (PARSED), or one row with a reason in their place.

    batches: how many batches of the file are read, all when None.

    Raises:
        ColumnMissing: a mapped column is not there.
    """
    columns = [source.item_id, source.title, *([source.categories] if source.categories else [])]
    frames = []
    try:
        for batch in islice(sources.batches(file.path, columns=columns, options=source), batches):
            frames.append(_items(batch, sha256, source))
    except Unreadable as error:
        bad = {schema.ITEM_ID: None, schema.ROW: 0, schema.FILE: sha256, schema.RAW: "", schema.REASON: str(error)}
        return pl.DataFrame([bad], schema=PARSED)
    return pl.concat([pl.DataFrame(schema=PARSED), *frames])


def _items(batch: Batch, sha256: str, source: ItemSource) -> pl.DataFrame:
    raw = {name: _stripped(batch.frame, name) for name in (source.item_id, source.title)}
    item_id = ids.text_of(raw[source.item_id], batch=batch, null_words=source.null_words)
    title = ids.text_of(raw[source.title], batch=replace(batch, may_have=lambda _: False), null_words=source.null_words)
    reason = pl.when(item_id.is_null()).then(pl.lit("no item id"))
    frame = pl.DataFrame(
        {
            schema.ITEM_ID: item_id,
            schema.TITLE: title.fill_null(""),
            schema.CATEGORIES: _all_categories(batch.frame, source),
            schema.FILE: pl.repeat(sha256, batch.frame.height, dtype=pl.String, eager=True),
            schema.ROW: batch.frame[ROW],
            schema.RAW: [batch.raw(place)[:RAW_LETTERS] for place in range(batch.frame.height)],
            "fault": batch.frame[FAULT],
        },
        schema_overrides={schema.CATEGORIES: schema.TEXTS, schema.RAW: pl.String},
    )
    doubts = ids.doubts(raw[source.item_id], batch, name=source.item_id, may_be_tokens=True)
    reasons = [pl.when(test).then(pl.lit(f"{name}; {ids.ADVICE[name]}")) for name, test in doubts.items()]
    return frame.select(*PARSED.names()[:-1], pl.coalesce("fault", *reasons, reason).alias(schema.REASON))


def _stripped(frame: pl.DataFrame, name: str) -> pl.Series:
    """A column whose texts have no blanks at their ends, null where there is nothing else."""
    column = frame[name]
    if column.dtype != pl.String:
        return column
    text = column.str.strip_chars()
    return text.set(text.str.len_bytes() == 0, None)


def _all_categories(frame: pl.DataFrame, source: ItemSource) -> list[list[str]]:
    if source.categories is None:
        return [[] for _ in range(frame.height)]
    texts = frame[source.categories].cast(pl.String)
    return [_categories(text, source) for text in texts]


def _categories(text: str | None, source: ItemSource) -> list[str]:
    """The categories of an item, each once: parts of a text, or of a list, written as JSON or by Python, that may hold lists."""
    text = (text or "").strip()
    if not text or text in source.null_words:
        return []
    parts: Any = text.split(source.categories_separator)
    if text.startswith("["):
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):  # a category may begin with a bracket
            parts = ast.literal_eval(text)
        with suppress(msgspec.MsgspecError):
            parts = msgspec.json.decode(text)
    flat = [str(part).strip() for part in _flat(parts)]
    return list(dict.fromkeys(part for part in flat if part))


def _flat(parts: Any) -> Iterator[Any]:
    """The values of lists inside lists; of an object its name."""
    for part in parts if isinstance(parts, list | tuple) else [parts]:
        if isinstance(part, list | tuple):
            yield from _flat(part)
        elif isinstance(part, dict) and "name" in part:
            yield part["name"]
        elif part is not None:
            yield part


def untitled(lake: Lake) -> tuple[int, int]:
    """Returns how many items of the log have no title, and how many items it has."""
    present = lake.scan("interactions").select(schema.ITEM_ID).unique()
    titled = lake.scan("items").filter(pl.col(schema.TITLE).str.len_bytes() > 0) if lake.exists("items") else None
    items = present.select(pl.len()).collect(engine="streaming").item()
    if titled is None:
        return items, items
    missing = present.join(titled, on=schema.ITEM_ID, how="anti").select(pl.len())
    return missing.collect(engine="streaming").item(), items
