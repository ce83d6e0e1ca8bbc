"""Ingests raw item files into the table `items`: one row per item, as the file that was ingested last has it."""

from contextlib import suppress
from typing import Any

import msgspec
import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.ingest import sources
from dealrec_core.ingest.events import BAD_ROWS, RAW_LETTERS
from dealrec_core.ingest.raw.batch import Unreadable
from dealrec_core.ingest.sources import RawFile, Record
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
        if table is None or table.transaction_version(ledger.row_transaction("items", sha256, FINISHED)) is None:
            total += _ingest(lake, file, sha256, config)
    return total


def _ingest(lake: Lake, file: RawFile, sha256: str, config: SourcesConfig) -> IngestReport:
    assert config.items is not None
    parsed = _parsed(file, sha256, config.items)
    is_bad = pl.col(schema.REASON).is_not_null()
    bad = parsed.filter(is_bad).with_columns(pl.lit(schema.ITEM_ID).alias(schema.COLUMN))
    if bad.height > config.max_bad_fraction * parsed.height:
        raise DataError(
            f"{bad.height:,} of {parsed.height:,} rows of '{file.path}' are bad, more than sources.max_bad_fraction = "
            f"{config.max_bad_fraction:g}; nothing of it was written. First: {bad[schema.REASON][0]}; correct it or [sources.items]"
        )
    good = parsed.filter(~is_bad).unique(schema.ITEM_ID, keep="last", maintain_order=True).select(schema.ITEMS.names())
    if bad.height:
        ledger.quarantine(lake, [(sha256, file.path, bad.select(BAD_ROWS.names()))])
    counts = {**dict.fromkeys(COUNTS, 0), "rows": parsed.height, "quarantined": bad.height}
    place = {schema.FILE: sha256, "path": file.path, "stamp": file.stamp, "kind": "items", "through": "0001-01-01"}
    row = _upsert(lake, good, {**place, **counts, "number": FINISHED})
    if row is None:
        ledger.heal(lake)
        return IngestReport()
    ledger.write(lake, [row])
    return ledger.report(row)


def _upsert(lake: Lake, good: pl.DataFrame, row: ledger.Row) -> ledger.Row | None:
    """Writes items that are new or changed, with a note of the file's row in `files`; returns that row with its counts.

    Returns None when another ingest has written the file.
    """
    same = [schema.ITEM_ID, schema.TITLE, schema.CATEGORIES]

    def attempt(draft: Draft) -> ledger.Row | None:
        if draft.recorded(row[schema.FILE]) is not None:
            return None
        items = lake.scan("items", draft.handle.version()).collect()
        changed = good.join(items.select(same), on=same, how="anti", maintain_order="left")
        repeated = row["rows"] - row["quarantined"] - changed.height
        counted = {**row, "inserted": changed.height, "duplicates": repeated}
        if changed.is_empty():
            return counted
        unchanged = items.select(schema.ITEMS.names()).join(changed, on=schema.ITEM_ID, how="anti")
        for path in draft.files()["path"]:
            draft.remove(path)
        draft.write(pl.concat([unchanged, changed]).sort(schema.ITEM_ID))
        draft.commit({row[schema.FILE]: 1}, ledger.note([counted]))
        return counted

    return change(lake, "items", attempt, schema=schema.ITEMS)


def _parsed(file: RawFile, sha256: str, source: ItemSource) -> pl.DataFrame:
    columns = [source.item_id, source.title, *([source.categories] if source.categories else [])]
    try:
        records = list(sources.records(file.path, columns=columns, options=source))
    except Unreadable as error:
        records = [Record(0, {}, "", str(error))]
    return pl.DataFrame([_row(record, sha256, source) for record in records], schema=PARSED)


def _row(record: Record, sha256: str, source: ItemSource) -> dict[str, Any]:
    item_id = _text(record.fields.get(source.item_id))
    categories = record.fields.get(source.categories) if source.categories else None
    return {
        schema.ITEM_ID: item_id,
        schema.TITLE: _text(record.fields.get(source.title)) or "",
        schema.CATEGORIES: _categories(categories, source.categories_separator),
        schema.FILE: sha256,
        schema.ROW: record.row,
        schema.RAW: record.raw[:RAW_LETTERS],
        schema.REASON: record.fault or (None if item_id else "no item id"),
    }


def _text(value: Any) -> str | None:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return None if value is None else str(value).strip() or None


def _categories(value: Any, separator: str) -> list[str]:
    """The categories of an item: parts of a text, or of a list written as JSON."""
    text = _text(value) or ""
    parts: list[Any] = text.split(separator)
    if text.startswith("["):
        with suppress(msgspec.MsgspecError):  # a title may begin with a bracket
            parts = msgspec.json.decode(text, type=list)
    return [str(part).strip() for part in parts if str(part).strip()]
