"""Reads times in the less common written forms by their shape: year first, day with dots, names of months, AM and PM, offsets."""

from collections.abc import Callable

import polars as pl

MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAME = (
    "(?P<name>Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    "|Nov(?:ember)?|Dec(?:ember)?)"
)
_WEEKDAY = r"(?:(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs?)?|Fri|Sat(?:ur)?|Sun)(?:day)?,? +)?"
_CLOCK = r"(?P<hour>\d{1,2})(?:[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?)?)?"
_TIME = rf"(?:(?:T|[ ,:]+){_CLOCK}(?:\s*(?P<half>[ap]\.?m\.?))?)?"
_ZONE = r"(?:\s*(?P<zone>Z|(?:UTC|GMT)?\s*[+-]\d{2}(?::?\d{2})?|UTC|GMT)(?:\s*UTC)?(?:\s*\[[^\]]*\])?(?:\s*\([^)]*\))?(?: m=\S+)?)?"
_ST = r"(?:st|nd|rd|th)?"
SHAPES = [
    rf"(?P<year>\d{{4}})[-/.年](?P<month>\d{{1,2}})[-/.月](?P<day>\d{{1,2}})日?{_TIME}{_ZONE}",
    r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})"
    rf"(?:[T ]?(?P<hour>\d{{2}}):?(?P<minute>\d{{2}})(?::?(?P<second>\d{{2}})(?:[.,](?P<fraction>\d{{1,9}}))?)?)?{_ZONE}",
    rf"(?P<day>\d{{1,2}})\.(?P<month>\d{{1,2}})\.(?P<year>\d{{4}}){_TIME}{_ZONE}",
    rf"(?P<first>\d{{1,2}})[-/ ](?P<other>\d{{1,2}})[-/, ]+(?P<year>\d{{4}}){_TIME}{_ZONE}",
    rf"{_WEEKDAY}(?P<day>\d{{1,2}}){_ST}[-/ .]+{_NAME}[-/ .,]+(?P<year>\d{{4}}){_TIME}{_ZONE}",
    rf"{_WEEKDAY}{_NAME}\.? +(?P<day>\d{{1,2}}){_ST},? +(?P<year>\d{{4}}){_TIME}{_ZONE}",
    rf"{_WEEKDAY}{_NAME} +(?P<day>\d{{1,2}}) +{_CLOCK}{_ZONE} +(?P<year>\d{{4}})",
]
"""Forms of a time, from 2024/1/31 and 20240131T100000Z to Wed Jan 31 10:00:00 +0000 2024. Numbers with slashes or dashes before
the year have a meaning only where one of them is above 12, or both are equal."""
PARTS = ["year", "month", "day", "first", "other", "name", "hour", "minute", "second", "fraction", "half", "zone"]


def of_shapes(text: pl.Series, zone: str, *, localized: Callable[[pl.Series, str], pl.Series]) -> pl.Series:
    """Returns UTC times, null where no shape fits or the date does not exist."""
    result = pl.Series(text.name, [None] * len(text), dtype=pl.Datetime("us", "UTC"))
    for shape in SHAPES:
        places = (result.is_null() & text.str.contains(_whole(shape))).arg_true()
        if len(places):
            result = result.scatter(places, _times(text.gather(places), shape, zone, localized))
    return result


def _whole(shape: str) -> str:
    return rf"(?i)^{shape}$"


def _times(text: pl.Series, shape: str, zone: str, localized: Callable[[pl.Series, str], pl.Series]) -> pl.Series:
    groups = text.str.extract_groups(_whole(shape)).struct.unnest()
    missing = [pl.lit(None, dtype=pl.String).alias(name) for name in PARTS if name not in groups.columns]
    parts = groups.with_columns(missing).with_columns(_month(), _day(), _hour())
    clock = [pl.col(name).fill_null("0").str.zfill(2) for name in ("hour", "minute", "second")]
    written = pl.concat_str(
        pl.col("year"), pl.lit("-"), pl.col("month").str.zfill(2), pl.lit("-"), pl.col("day").str.zfill(2), pl.lit(" "),
        clock[0], pl.lit(":"), clock[1], pl.lit(":"), clock[2], pl.lit("."), pl.col("fraction").fill_null("0"),
    )  # fmt: skip
    naive = parts.select(written.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)).to_series()
    minutes = parts.select(_offset()).to_series()
    utc = (naive - (minutes * 60_000_000).cast(pl.Duration("us"))).dt.replace_time_zone("UTC")
    return utc.zip_with(minutes.is_not_null(), localized(naive, zone))


def _month() -> pl.Expr:
    first, other = pl.col("first").cast(pl.Int64), pl.col("other").cast(pl.Int64)
    number = pl.when((first > 12) | (first == other)).then(pl.col("other")).when(other > 12).then(pl.col("first"))
    name = pl.col("name").str.to_lowercase().str.slice(0, 3)
    named = name.replace_strict(MONTHS, [str(place) for place in range(1, 13)], default=None, return_dtype=pl.String)
    return pl.coalesce("month", named, number).alias("month")


def _day() -> pl.Expr:
    first, other = pl.col("first").cast(pl.Int64), pl.col("other").cast(pl.Int64)
    number = pl.when((first > 12) | (first == other)).then(pl.col("first")).when(other > 12).then(pl.col("other"))
    return pl.coalesce("day", number).alias("day")


def _hour() -> pl.Expr:
    """The hour of 24; an hour above 12 with AM or PM is none."""
    hour, is_afternoon = pl.col("hour").cast(pl.Int64), pl.col("half").str.to_lowercase().str.starts_with("p")
    of_half = pl.when(hour.is_between(1, 12)).then(hour % 12 + is_afternoon.cast(pl.Int64) * 12).otherwise(99)
    return pl.when(pl.col("half").is_null()).then(pl.col("hour")).otherwise(of_half.cast(pl.String)).alias("hour")


def _offset() -> pl.Expr:
    """Minutes east of UTC, null where the text names no zone."""
    digits = pl.col("zone").str.extract(r"([+-]\d{2})").cast(pl.Int64)
    minutes = pl.col("zone").str.extract(r"[+-]\d{2}:?(\d{2})").cast(pl.Int64).fill_null(0)
    is_west = pl.col("zone").str.contains("-", literal=True)
    signed = digits * 60 + pl.when(is_west).then(-minutes).otherwise(minutes)
    return pl.when(pl.col("zone").is_null()).then(None).otherwise(signed.fill_null(0))
