"""Turns raw records into typed events, and bad records into rows that say why they are bad."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import polars as pl

from dealrec_core import schema
from dealrec_core.ingest.raw.batch import FAULT, ROW, Batch

FIELDS = (schema.USER_ID, schema.ITEM_ID, schema.TIMESTAMP, schema.RATING, schema.EVENT_TYPE, schema.EVENT_ID)
TEXTS = (schema.USER_ID, schema.ITEM_ID, schema.EVENT_TYPE, schema.EVENT_ID)
EVENTS = pl.Schema({schema.ROW: pl.Int64(), **{name: schema.INTERACTIONS[name] for name in FIELDS}})
BAD_ROWS = pl.Schema({name: schema.QUARANTINE[name] for name in (schema.ROW, schema.COLUMN, schema.REASON, schema.RAW)})
PLAIN_TYPE = "event"
"""Event type where the log has none."""
ID_BYTES = 512
RAW_LETTERS = 500
EARLIEST, LATEST = datetime(1970, 1, 2, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_NO_TIME = np.iinfo(np.int64).min


def check(batch: Batch, mapping: dict[str, str | None], constants: dict[str, str]) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Returns typed events (EVENTS), and the bad records with their reasons (BAD_ROWS).

    mapping: the raw column of each of FIELDS, None where the log has none.
    constants: values of raw columns that are the same for the whole file.
    """
    columns = {
        name: _column(batch, raw, constants).alias(name) if raw else pl.lit(None, dtype=pl.String).alias(name)
        for name, raw in mapping.items()
    }
    text = batch.frame.select(ROW, FAULT, *columns.values())
    typed = text.select(
        pl.col(ROW).alias(schema.ROW),
        _id(text, schema.USER_ID),
        _id(text, schema.ITEM_ID),
        utc_times(text[schema.TIMESTAMP]).alias(schema.TIMESTAMP),
        pl.col(schema.RATING).cast(pl.Float64, strict=False),
        _id(text, schema.EVENT_TYPE).fill_null(PLAIN_TYPE),
        _id(text, schema.EVENT_ID),
    )
    faults = _faults(text, typed)
    is_bad = pl.concat([text.select(pl.col(FAULT).is_not_null()), faults], how="horizontal").select(
        pl.any_horizontal(pl.all())
    )[FAULT]
    if not is_bad.any():
        return typed, pl.DataFrame(schema=BAD_ROWS)
    return typed.filter(~is_bad), _bad_rows(batch, text, faults, is_bad)


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


def _id(text: pl.DataFrame, name: str) -> pl.Expr:
    """Text of a number; a whole float loses its .0."""
    kind = text.schema[name]
    if kind.is_float():
        number = pl.col(name)
        is_whole = (number == number.round()) & (number.abs() < 2**63)
        whole = pl.when(is_whole).then(number).cast(pl.Int64).cast(pl.String)
        return pl.coalesce(whole, pl.when(number.is_finite()).then(number).cast(pl.String)).alias(name)
    return pl.col(name).cast(pl.String)


def _faults(text: pl.DataFrame, typed: pl.DataFrame) -> pl.DataFrame:
    """One boolean column per kind of fault that occurs, named column|reason."""
    time = pl.col(schema.TIMESTAMP)
    of_typed = {
        f"{schema.USER_ID}|no user id": pl.col(schema.USER_ID).is_null(),
        f"{schema.ITEM_ID}|no item id": pl.col(schema.ITEM_ID).is_null(),
        f"{schema.TIMESTAMP}|unreadable or missing timestamp": time.is_null(),
        f"{schema.TIMESTAMP}|timestamp outside 1970 to 2200": ~time.is_between(EARLIEST, LATEST).fill_null(True),
        **{
            f"{name}|longer than {ID_BYTES} bytes": (pl.col(name).str.len_bytes() > ID_BYTES).fill_null(False)
            for name in TEXTS
        },
    }
    faults = typed.select(test.alias(name) for name, test in of_typed.items())
    given = text[schema.RATING].is_not_null()
    if given.any():
        number = typed[schema.RATING].is_finite().fill_null(False)
        faults = faults.with_columns((given & ~number).alias(f"{schema.RATING}|rating is not a number"))
    return faults.select(column.name for column in [*faults] if column.any())


def _bad_rows(batch: Batch, text: pl.DataFrame, faults: pl.DataFrame, is_bad: pl.Series) -> pl.DataFrame:
    places = is_bad.arg_true()
    named = {name: name.split("|", 1) for name in faults.columns}
    bad = pl.concat([text.select(pl.col(ROW).alias(schema.ROW), FAULT), faults], how="horizontal")
    columns = [pl.when(pl.col(FAULT).is_not_null()).then(pl.lit(""))]
    reasons: list[pl.Expr] = [pl.col(FAULT)]
    for name, (column, reason) in named.items():
        columns.append(pl.when(pl.col(name)).then(pl.lit(column)))
        reasons.append(pl.when(pl.col(name)).then(pl.lit(reason)))
    raws = [batch.raw(place)[:RAW_LETTERS] for place in places]
    return (
        bad.filter(is_bad)
        .select(schema.ROW, pl.coalesce(columns).alias(schema.COLUMN), pl.coalesce(reasons).alias(schema.REASON))
        .with_columns(pl.Series(schema.RAW, raws, dtype=pl.String))
    )


def utc_times(column: pl.Series) -> pl.Series:
    """Returns UTC times: from epoch seconds, milliseconds or microseconds (distinguished by size) or ISO 8601; else null.

    A time without a zone is UTC.
    """
    if column.dtype == pl.Datetime or column.dtype == pl.Date:
        plain = column.cast(pl.Datetime("us", getattr(column.dtype, "time_zone", None)))
        is_naive = getattr(column.dtype, "time_zone", None) is None
        return plain.dt.replace_time_zone("UTC") if is_naive else plain.dt.convert_time_zone("UTC")
    if column.dtype.is_numeric():
        return _from_epoch(column)
    result = _from_epoch(column.cast(pl.Int64, strict=False))
    if result.null_count() == column.null_count():
        return result
    micros = result.to_physical().fill_null(_NO_TIME).to_numpy().copy()
    for read in READERS:
        places = np.flatnonzero((micros == _NO_TIME) & column.is_not_null().to_numpy())
        if not len(places):
            break
        micros[places] = read(column.gather(places)).to_physical().fill_null(_NO_TIME).to_numpy()
    return pl.Series(column.name, micros).replace(_NO_TIME, None).cast(pl.Datetime("us", "UTC"))


def _from_epoch(number: pl.Series) -> pl.Series:
    name = number.name
    size = pl.col(name).abs()
    scale = pl.when(size < 10**11).then(10**6).when(size < 10**14).then(10**3).otherwise(1)
    micros = (pl.col(name) * scale).round() if number.dtype.is_float() else pl.col(name).cast(pl.Int64) * scale
    return number.to_frame().select(micros.cast(pl.Int64, strict=False).cast(pl.Datetime("us", "UTC"))).to_series()


def _zoned(form: str) -> Callable[[pl.Series], pl.Series]:
    return lambda text: text.str.to_datetime(form, time_unit="us", strict=False).dt.convert_time_zone("UTC")


def _plain(form: str) -> Callable[[pl.Series], pl.Series]:
    return lambda text: text.str.to_datetime(form, time_unit="us", strict=False).dt.replace_time_zone("UTC")


READERS: list[Callable[[pl.Series], pl.Series]] = [
    _zoned("%Y-%m-%dT%H:%M:%S%.f%#z"),
    _plain("%Y-%m-%d %H:%M:%S%.f"),
    _plain("%Y-%m-%dT%H:%M:%S%.f"),
    _zoned("%Y-%m-%d %H:%M:%S%.f%#z"),
    lambda text: text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
    lambda text: _from_epoch(text.cast(pl.Float64, strict=False)),
]
