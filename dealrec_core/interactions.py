"""Takes raw interactions and items into the lake, every row once.

Books balance for every file: rows = earlier + inserted + duplicates + quarantined + filtered + postponed.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict

from dealrec_core import schema, sources
from dealrec_core.errors import SettingsError, SourceError
from dealrec_core.lake import Lake
from dealrec_core.sources import InteractionSource, ItemSource, RawFile, Record, SourcesConfig

raw_record = sources.raw_record

FINISHED = 2**40
"""Transaction number of a file of which no row is postponed; any day's ordinal is smaller."""
RAW_LIMIT = 500
PERIODS = {"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}
EARLIEST, LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
FIELDS = (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.RATING, schema.EVENT_TYPE, schema.EVENT_ID)


class IngestReport(BaseModel):
    """What was taken: file paths, and how many rows went where."""

    model_config = ConfigDict(frozen=True)

    files: list[str] = []
    rows: int = 0
    earlier: int = 0
    """Rows that an earlier night took from the same file."""
    inserted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    filtered: int = 0
    postponed: int = 0

    def __add__(self, other: "IngestReport") -> "IngestReport":
        return IngestReport(**{name: getattr(self, name) + getattr(other, name) for name in IngestReport.model_fields})


def ingest(
    lake: Lake, config: SourcesConfig, *, through: date, partition: Literal["day", "month", "year"]
) -> IngestReport:
    """Takes every row up to the end of day `through` (UTC) that the lake does not have yet; later rows are postponed.

    Raises:
        SourceError: the root cannot be read, no file matches, or a file is broken.
        SettingsError: a mapped column or the filter does not fit the file.
    """
    found = sources.find(config.root, config.interactions.files)
    if not found:
        raise SourceError(
            f"no file in '{config.root}' matches {config.interactions.files}; set sources.interactions.files"
        )
    total = IngestReport()
    for file in {each.sha256: each for each in found}.values():
        if (lake.transaction_version("interactions", file.sha256) or 0) < through.toordinal():
            total += _take(lake, file, config.interactions, through=through, partition=partition)
    return total


def untaken(lake: Lake, config: SourcesConfig, *, through: date) -> list[RawFile]:
    """The files of which a night up to `through` would take rows."""
    found = {each.sha256: each for each in sources.find(config.root, config.interactions.files)}
    return [
        file
        for file in found.values()
        if (lake.transaction_version("interactions", file.sha256) or 0) < through.toordinal()
    ]


def _take(
    lake: Lake, file: RawFile, source: InteractionSource, *, through: date, partition: Literal["day", "month", "year"]
) -> IngestReport:
    """One file in one commit: its rows and the word that it was taken through this day."""
    before = lake.transaction_version("interactions", file.sha256)
    parsed = pl.concat([_parse(batch, source) for batch in _batches(file.path)] or [_parse([], source)])
    end = datetime.combine(through + timedelta(days=1), datetime.min.time(), UTC)
    start = (
        None
        if before is None
        else datetime.combine(date.fromordinal(before) + timedelta(days=1), datetime.min.time(), UTC)
    )
    bad = parsed.filter(pl.col(schema.REASON).is_not_null())
    good = parsed.filter(pl.col(schema.REASON).is_null())
    wanted = _filtered(good, source.filter)
    earlier = pl.lit(False) if start is None else pl.col(schema.TIMESTAMP) < start
    due = wanted.filter((pl.col(schema.TIMESTAMP) < end) & ~earlier)
    fresh = _not_in_lake(lake, _rows(due, file, partition).unique(schema.EVENT_ID, keep="first", maintain_order=True))
    postponed = wanted.filter(pl.col(schema.TIMESTAMP) >= end).height
    report = IngestReport(
        files=[file.path],
        rows=parsed.height,
        earlier=wanted.select(earlier.sum()).item() if start else 0,
        inserted=fresh.height,
        duplicates=due.height - fresh.height,
        quarantined=bad.height,
        filtered=good.height - wanted.height,
        postponed=postponed,
    )
    number = through.toordinal() if postponed else FINISHED
    _quarantine(lake, bad, file)
    lake.append(
        "interactions",
        fresh,
        schema=schema.INTERACTIONS,
        transaction=(file.sha256, number),
        partition_by=[schema.PERIOD],
    )
    _book(lake, file, "interactions", through, report, number)
    return report


def _batches(path: str) -> Iterator[list[Record]]:
    found = sources.records(path)
    while batch := list(islice(found, sources.BATCH_ROWS)):
        yield batch


def _parse(batch: list[Record], source: InteractionSource) -> pl.DataFrame:
    """Typed columns, with `reason` and `column` set where a record is bad."""
    mapping = {name: getattr(source, name) for name in FIELDS}
    if batch and not any(record.fault for record in batch[:1]):
        _check_columns(batch[0].fields, mapping)
    text = pl.DataFrame(
        {
            schema.ROW: [record.row for record in batch],
            schema.RAW: [record.raw[:RAW_LIMIT] for record in batch],
            "fault": [record.fault for record in batch],
            **{
                name: [_as_text(record.fields.get(column)) if column else None for record in batch]
                for name, column in mapping.items()
            },
        },
        schema={schema.ROW: pl.Int64, schema.RAW: pl.String, "fault": pl.String, **dict.fromkeys(FIELDS, pl.String)},
    )
    typed = text.with_columns(
        utc_time(pl.col(schema.TIMESTAMP)).alias("time"),
        pl.col(schema.RATING).cast(pl.Float64, strict=False).alias("number"),
    )
    faults = {
        "": pl.col("fault"),
        schema.USER_ID: _when(pl.col(schema.USER_ID).is_null(), "no user id"),
        schema.ITEM_ID: _when(pl.col(schema.ITEM_ID).is_null(), "no item id"),
        schema.TIMESTAMP: _when(pl.col("time").is_null(), "unreadable or missing timestamp"),
        schema.TIMESTAMP + " ": _when(~pl.col("time").is_between(EARLIEST, LATEST), "timestamp outside 1970 to 2200"),
        schema.RATING: _when(
            pl.col(schema.RATING).is_not_null() & ~pl.col("number").is_finite().fill_null(False),
            "rating is not a number",
        ),
    }
    return typed.select(
        schema.ROW,
        schema.RAW,
        schema.USER_ID,
        schema.ITEM_ID,
        pl.col("time").alias(schema.TIMESTAMP),
        pl.col("number").alias(schema.RATING),
        pl.col(schema.EVENT_TYPE).fill_null("event"),
        schema.EVENT_ID,
        pl.coalesce(*faults.values()).alias(schema.REASON),
        pl.coalesce(*[_when(fault.is_not_null(), column.strip()) for column, fault in faults.items()]).alias(
            schema.COLUMN
        ),
    )


def utc_time(text: pl.Expr) -> pl.Expr:
    """UTC times from text: epoch seconds, milliseconds or microseconds (told apart by size), or ISO 8601; else null."""
    number = text.cast(pl.Float64, strict=False)
    scale = pl.when(number.abs() < 1e11).then(1e6).when(number.abs() < 1e14).then(1e3).otherwise(1.0)
    epoch = (number * scale).round().cast(pl.Int64, strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    zoned = [
        text.str.to_datetime(form, time_unit="us", strict=False).dt.convert_time_zone("UTC")
        for form in ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z")
    ]
    plain = [
        text.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC")
        for form in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f")
    ]
    day = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return pl.coalesce(epoch, *zoned, *plain, day)


def _filtered(frame: pl.DataFrame, condition: str | None) -> pl.DataFrame:
    if condition is None:
        return frame
    try:
        return frame.filter(pl.sql_expr(condition))
    except pl.exceptions.PolarsError as error:
        raise SettingsError(
            f"sources.interactions.filter '{condition}': {str(error).splitlines()[0]}; it may use {', '.join(FIELDS[:5])}"
        ) from error


def _rows(due: pl.DataFrame, file: RawFile, partition: str) -> pl.DataFrame:
    hashed = [
        given or event_id(user, item, time, kind)
        for given, user, item, time, kind in due.select(
            schema.EVENT_ID, schema.USER_ID, schema.ITEM_ID, pl.col(schema.TIMESTAMP).to_physical(), schema.EVENT_TYPE
        ).iter_rows()
    ]
    return due.with_columns(
        pl.Series(schema.EVENT_ID, hashed, dtype=pl.String),
        pl.col(schema.TIMESTAMP).dt.strftime(PERIODS[partition]).alias(schema.PERIOD),
        pl.lit(file.sha256).alias(schema.FILE),
    ).select(schema.INTERACTIONS.names())


def event_id(user: str, item: str, time_us: int, kind: str) -> str:
    """32 hex digits over user, item, time and type: the identity of an event that has none of its own."""
    return hashlib.blake2b("\x1f".join((user, item, str(time_us), kind)).encode(), digest_size=16).hexdigest()


def _not_in_lake(lake: Lake, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows whose event is not there yet; only the partitions that they touch are read."""
    if rows.is_empty() or not lake.exists("interactions"):
        return rows
    periods = rows[schema.PERIOD].unique().to_list()
    known = lake.scan("interactions").filter(pl.col(schema.PERIOD).is_in(periods)).select(schema.EVENT_ID)
    return rows.join(known.collect(), on=schema.EVENT_ID, how="anti", maintain_order="left")


def _quarantine(lake: Lake, bad: pl.DataFrame, file: RawFile) -> None:
    """Bad rows of a file, once however often the file is read."""
    if bad.height:
        rows = bad.with_columns(pl.lit(file.sha256).alias(schema.FILE), pl.lit(file.path).alias("path"))
        lake.append(
            "quarantine", rows.select(schema.QUARANTINE.names()), schema=schema.QUARANTINE, transaction=(file.sha256, 1)
        )


def _book(lake: Lake, file: RawFile, kind: str, through: date, report: IngestReport, number: int) -> None:
    row = {
        schema.FILE: file.sha256,
        "path": file.path,
        "kind": kind,
        "through": through,
        **report.model_dump(exclude={"files"}),
    }
    lake.append(
        "files",
        pl.DataFrame([row], schema=schema.FILES),
        schema=schema.FILES,
        transaction=(f"{kind}/{file.sha256}", number),
    )


def ingest_items(lake: Lake, config: SourcesConfig) -> IngestReport:
    """Takes every item file the lake does not have yet; a later file wins over an earlier one for the same item."""
    if config.items is None:
        return IngestReport()
    total = IngestReport()
    for file in sources.find(config.root, config.items.files):
        if lake.transaction_version("files", f"items/{file.sha256}") is None:
            total += _take_items(lake, file, config.items)
    return total


def _take_items(lake: Lake, file: RawFile, source: ItemSource) -> IngestReport:
    found = list(sources.records(file.path))
    if found:
        _check_columns(
            found[0].fields, {"item_id": source.item_id, "title": source.title, "categories": source.categories}
        )
    rows = [
        {
            schema.ITEM_ID: _as_text(record.fields.get(source.item_id)),
            schema.TITLE: _as_text(record.fields.get(source.title)) or "",
            schema.CATEGORIES: _categories(record.fields.get(source.categories), source.categories_separator)
            if source.categories
            else [],
            schema.FILE: file.sha256,
            schema.ROW: record.row,
            schema.RAW: record.raw[:RAW_LIMIT],
            schema.REASON: record.fault,
        }
        for record in found
    ]
    parsed = pl.DataFrame(rows, schema={**schema.ITEMS, schema.RAW: pl.String, schema.REASON: pl.String})
    is_bad = pl.col(schema.ITEM_ID).is_null() | pl.col(schema.REASON).is_not_null()
    bad = parsed.filter(is_bad).with_columns(
        pl.col(schema.REASON).fill_null("no item id"), pl.lit(schema.ITEM_ID).alias(schema.COLUMN)
    )
    good = parsed.filter(~is_bad).unique(schema.ITEM_ID, keep="last", maintain_order=True).select(schema.ITEMS.names())
    known = lake.scan("items").collect() if lake.exists("items") else pl.DataFrame(schema=schema.ITEMS)
    same = [schema.ITEM_ID, schema.TITLE, schema.CATEGORIES]
    changed = good.join(known.select(same), on=same, how="anti", maintain_order="left")
    if changed.height:
        kept = known.join(changed, on=schema.ITEM_ID, how="anti")
        lake.replace("items", pl.concat([kept, changed]).sort(schema.ITEM_ID), schema=schema.ITEMS)
    report = IngestReport(
        files=[file.path],
        rows=parsed.height,
        inserted=changed.height,
        duplicates=parsed.height - bad.height - changed.height,
        quarantined=bad.height,
    )
    _quarantine(lake, bad, file)
    _book(lake, file, "items", date.min, report, FINISHED)
    return report


def _check_columns(fields: dict[str, Any], mapping: dict[str, str | None]) -> None:
    for name, column in mapping.items():
        if column is not None and column not in fields:
            raise SettingsError(f"no column '{column}' for {name}; the file has {', '.join(map(str, fields))}")


def _as_text(value: Any) -> str | None:
    """Text of a raw value, None where it is missing or blank; whole floats lose their .0, times become ISO."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def _categories(value: Any, separator: str) -> list[str]:
    parts = value if isinstance(value, list) else str(value or "").split(separator)
    return [str(part).strip() for part in parts if str(part).strip()]


def _when(condition: pl.Expr, text: str) -> pl.Expr:
    return pl.when(condition).then(pl.lit(text))
