"""Turns raw records into typed events, and bad records into rows that say why they are bad."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, partial

import polars as pl

from dealrec_core import schema
from dealrec_core.ingest import ids, times
from dealrec_core.ingest.raw.batch import FAULT, ROW, Batch
from dealrec_core.settings.sources import InteractionSource

FIELDS = (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.RATING, schema.EVENT_TYPE, schema.EVENT_ID)
TEXTS = (schema.USER_ID, schema.ITEM_ID, schema.EVENT_TYPE, schema.EVENT_ID)
EVENTS = pl.Schema({schema.ROW: pl.Int64(), **{name: schema.INTERACTIONS[name] for name in FIELDS}})
BAD_ROWS = pl.Schema({name: schema.QUARANTINE[name] for name in (schema.ROW, schema.COLUMN, schema.REASON, schema.RAW)})
PLAIN_TYPE = "event"
"""Event type where the log has none."""
ID_BYTES = 512
RAW_LETTERS = 500
EARLIEST, LATEST = datetime(1971, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Times of 1970 are numbers that were taken for another unit: a column of milliseconds that holds seconds is in January 1970."""
TOLD_ROWS = 1000
"""Bad rows of a block whose reasons name their values; in a wrong mapping all rows are bad, and for the same reason."""
NO_TIME, OUTSIDE = (
    f"{schema.TIMESTAMP}|{what}" for what in ("unreadable or missing timestamp", "timestamp outside 1971 to 2200")
)


def check(batch: Batch, source: InteractionSource, constants: dict[str, str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns typed events (EVENTS), and the bad records with their reasons (BAD_ROWS).

    constants: values of raw columns that are the same for the whole file.
    """
    mapping = {name: getattr(source, name) for name in FIELDS}
    columns = {
        name: _column(batch, raw, constants).alias(name) if raw else pl.lit(None, dtype=pl.String).alias(name)
        for name, raw in mapping.items()
    }
    text = batch.frame.select(ROW, FAULT, *columns.values())
    id_of = partial(ids.text_of, batch=batch, null_words=source.null_words)
    typed = pl.DataFrame(
        [
            text[ROW].alias(schema.ROW),
            id_of(text[schema.USER_ID]),
            id_of(text[schema.ITEM_ID]),
            times.utc_times(text[schema.TIMESTAMP], form=source.timestamp_format, zone=source.time_zone),
            _rating(text[schema.RATING]),
            id_of(text[schema.EVENT_TYPE]).fill_null(PLAIN_TYPE),
            id_of(text[schema.EVENT_ID]),
        ]
    )
    faults = _faults(text, typed, batch, source)
    is_bad = pl.concat([text.select(pl.col(FAULT).is_not_null()), faults], how="horizontal").select(
        pl.any_horizontal(pl.all())
    )[FAULT]
    if not is_bad.any():
        return typed, pl.DataFrame(schema=BAD_ROWS)
    return typed.filter(~is_bad), _bad_rows(batch, text, faults, is_bad, source)


def _rating(column: pl.Series) -> pl.Series:
    """Numbers; true and false are 1 and 0."""
    number = column.cast(pl.Float64, strict=False)
    if column.dtype != pl.String or number.null_count() == column.null_count():
        return number
    words = column.str.to_lowercase().replace_strict({"true": 1.0, "false": 0.0}, default=None, return_dtype=pl.Float64)
    return number.fill_null(words)


def _column(batch: Batch, raw: str, constants: dict[str, str]) -> pl.Expr:
    """Stripped text of a raw column, null where it is blank; numbers and times of Parquet stay what they are."""
    if raw in constants:
        return pl.lit(constants[raw])
    if raw not in batch.frame.columns:
        return pl.lit(None, dtype=pl.String)
    if batch.is_stripped or batch.frame.schema[raw] != pl.String:
        return pl.col(raw)
    stripped = pl.col(raw).str.strip_chars()
    return pl.when(stripped.str.len_bytes() > 0).then(stripped)


def _faults(text: pl.DataFrame, typed: pl.DataFrame, batch: Batch, source: InteractionSource) -> pl.DataFrame:
    """One boolean column per kind of fault that occurs, named column|reason."""
    time = pl.col(schema.TIMESTAMP)
    of_typed = {
        f"{schema.USER_ID}|no user id": pl.col(schema.USER_ID).is_null(),
        f"{schema.ITEM_ID}|no item id": pl.col(schema.ITEM_ID).is_null(),
        NO_TIME: time.is_null(),
        OUTSIDE: ~time.is_between(EARLIEST, LATEST).fill_null(True),
        **{
            f"{name}|longer than {ID_BYTES} bytes": (pl.col(name).str.len_bytes() > ID_BYTES).fill_null(False)
            for name in TEXTS
        },
    }
    faults = typed.select(test.alias(name) for name, test in of_typed.items())
    for name in (schema.USER_ID, schema.ITEM_ID):
        doubts = ids.doubts(text[name], batch, name=getattr(source, name), may_be_tokens=name == schema.ITEM_ID)
        faults = faults.with_columns(test.alias(f"{name}|{reason}") for reason, test in doubts.items())
    given = text[schema.RATING].is_not_null()
    if given.any():
        number = typed[schema.RATING].is_finite().fill_null(False)
        is_bad = given & ~number
        if is_bad.any() and text[schema.RATING].dtype == pl.String:  # what reads as NaN stays a fault
            is_word = text[schema.RATING].is_in(source.null_words) & typed[schema.RATING].is_null()
            is_bad &= ~is_word.fill_null(False)
        faults = faults.with_columns(is_bad.alias(f"{schema.RATING}|rating is not a number"))
    return faults.select(column.name for column in sorted(faults, key=_rank) if column.any())


def _rank(fault: pl.Series) -> int:
    """Lists first: they explain other faults of a row."""
    return not fault.name.split("|")[1].startswith(ids.LIST)


def _bad_rows(
    batch: Batch, text: pl.DataFrame, faults: pl.DataFrame, is_bad: pl.Series, source: InteractionSource
) -> pl.DataFrame:
    places = is_bad.arg_true()
    named = {name: name.split("|", 1) for name in faults.columns}
    bad = pl.concat([text.select(pl.col(ROW).alias(schema.ROW), FAULT), faults], how="horizontal")
    columns = [pl.when(pl.col(FAULT).is_not_null()).then(pl.lit(""))]
    reasons: list[pl.Expr] = [pl.col(FAULT)]
    for name, (column, reason) in named.items():
        columns.append(pl.when(pl.col(name)).then(pl.lit(column)))
        reasons.append(pl.when(pl.col(name)).then(pl.lit(reason)))
    raws = [batch.raw(place)[:RAW_LETTERS] for place in places]
    rows = bad.filter(is_bad).select(
        schema.ROW, pl.coalesce(columns).alias(schema.COLUMN), pl.coalesce(reasons).alias(schema.REASON)
    )
    told = _told(rows[:TOLD_ROWS], text.filter(is_bad)[:TOLD_ROWS], source)
    all_reasons = pl.concat([pl.Series(schema.REASON, told, dtype=pl.String), rows[schema.REASON][TOLD_ROWS:]])
    return rows.with_columns(all_reasons, pl.Series(schema.RAW, raws, dtype=pl.String))


def _told(rows: pl.DataFrame, text: pl.DataFrame, source: InteractionSource) -> list[str]:
    """The reasons with the values that they are about."""
    why_time = cache(partial(times.why, form=source.timestamp_format))
    why_not: dict[str, Callable[[str, str], str]] = {
        "unreadable or missing timestamp": lambda _, value: why_time(value),
        "no user id": lambda reason, value: f"{reason}: '{value}' is one of null_words",
        "no item id": lambda reason, value: f"{reason}: '{value}' is one of null_words",
        "timestamp outside 1971 to 2200": lambda reason, value: f"{reason}: '{value[: times.SHOWN_LETTERS]}'",
        "rating is not a number": lambda reason, value: f"{reason}: '{value[: times.SHOWN_LETTERS]}'",
    }
    told = []
    for place, (column, reason) in enumerate(rows.select(schema.COLUMN, schema.REASON).iter_rows()):
        value = text[column][place] if column else None
        tell = why_not.get(reason, ids.told)
        told.append(reason if value is None else tell(reason, str(value)))
    return told
