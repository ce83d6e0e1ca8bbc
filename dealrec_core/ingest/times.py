"""Reads times of every common written form that has one meaning, and says of others why they have none."""

import re
from collections.abc import Callable
from datetime import date, timedelta
from functools import partial

import polars as pl

from dealrec_core.ingest.written_times import of_shapes

FIRST, LAST = 631_152_000, 7_258_118_400
"""The years 1990 to 2200 in epoch seconds: a number outside, in every unit, is no epoch but a day, a counter or something else."""
UNITS = {"s": 10**6, "ms": 10**3, "us": 1}
"""Microseconds of each unit; a nanosecond is a thousandth of one."""
TICKS = (627_000_000_000_000_000, 663_000_000_000_000_000)
""".NET's count of 100 nanoseconds since the year 1, from 1988 to 2101: as nanoseconds since 1970 these would be 1990."""
FORMS = "dealrec reads epoch seconds to nanoseconds, 20240131, ISO 8601, 31.1.2024 10:00, 31 Jan 2024 10:00 (docs/lake.md lists all)"
SETTING = "sources.interactions.timestamp_format"
SHOWN_LETTERS = 40
_EXCEL = date(1899, 12, 30)


def utc_times(column: pl.Series, *, form: str | None = None, zone: str = "UTC") -> pl.Series:
    """Returns UTC times, null where a value has no meaning or more than one.

    form: how the times are written, as `timestamp_format`; None tells it from each value.
    zone: the zone of times that name none.
    """
    if column.dtype == pl.Datetime or column.dtype == pl.Date:
        own = getattr(column.dtype, "time_zone", None)
        plain = column.cast(pl.Datetime("us", own))
        return _localized(plain, zone) if own is None else plain.dt.convert_time_zone("UTC")
    if form is not None:
        return _of_form(column, form, zone)
    if column.dtype.is_numeric():
        return _of_numbers(column, zone)
    whole = column.cast(pl.Int64, strict=False)
    result = _of_numbers(whole, zone)
    if whole.null_count() == column.null_count():
        return result
    may_be_text = column.is_not_null() & whole.is_null()
    for read in READERS:
        places = (result.is_null() & may_be_text).arg_true()
        if not len(places):
            break
        result = result.scatter(places, read(column.gather(places), zone))
    return result


def why(value: str, form: str | None) -> str:
    """Returns why a value is no time, what can be read, and which setting to change."""
    text = value if len(value) <= SHOWN_LETTERS else f"{value[:SHOWN_LETTERS]}..."
    said = f"unreadable timestamp '{text}'"
    if form is not None:
        return f"{said}: it is not of the form {form}; correct {SETTING}"
    for pattern, hint in HINTS.items():
        if re.fullmatch(pattern, value):
            return f"{said}: {hint(value)}; {FORMS}"
    return f"{said}; {FORMS}; set {SETTING} for others"


def _of_numbers(number: pl.Series, zone: str) -> pl.Series:
    """Times of epoch numbers by their size, and of calendar days such as 20240131 or 20240131235959."""
    name = number.name
    if not number.dtype.is_integer():
        number = number.cast(pl.Float64)
    elif number.dtype != pl.Int64:
        number = number.cast(pl.Int64, strict=False)
    low, high = number.min(), number.max()
    if number.dtype == pl.Int64 and low is not None and FIRST <= low <= high < HOURS[0]:  # type: ignore[operator]
        return (number * UNITS["s"]).cast(pl.Datetime("us", "UTC"))
    value = pl.col(name)
    micros = pl.lit(None, dtype=pl.Int64)
    for unit, factor in UNITS.items():
        scale = 10**6 // factor
        is_unit = value.is_between(FIRST * scale, LAST * scale) & ~(_is_hour(value) if unit == "s" else pl.lit(False))
        micros = pl.when(is_unit).then((value * factor).round().cast(pl.Int64, strict=False)).otherwise(micros)
    is_nanos = value.is_between(FIRST * 10**9, LAST * 10**9) & ~value.is_between(*TICKS)
    micros = (
        pl.when(is_nanos)
        .then((value / 1000 if number.dtype.is_float() else value // 1000).cast(pl.Int64, strict=False))
        .otherwise(micros)
    )
    result = number.to_frame().select(micros.cast(pl.Datetime("us", "UTC")).alias(name)).to_series()
    places = (result.is_null() & number.is_between(19_000_101, 22_001_231_235_959)).arg_true()
    if not len(places):
        return result
    digits = number.gather(places).cast(pl.Int64, strict=False)
    is_whole = digits.cast(number.dtype) == number.gather(places)
    days = _dated(digits.cast(pl.String), zone).zip_with(is_whole, pl.Series([None], dtype=pl.Datetime("us", "UTC")))
    return result.scatter(places, days)


HOURS = (1_970_010_100, 2_199_123_123)
"""Hours such as 2024013110, which as epoch seconds are in 2032 to 2039."""


def _is_hour(value: pl.Expr) -> pl.Expr:
    """Whether a number could also be an hour such as 2024013110."""
    month, day, hour = value // 10_000 % 100, value // 100 % 100, value % 100
    return value.is_between(*HOURS) & month.is_between(1, 12) & day.is_between(1, 31) & (hour < 24)


def _dated(digits: pl.Series, zone: str) -> pl.Series:
    """Times of 8, 12 or 14 digits."""
    length = digits.str.len_bytes()
    full = digits.str.pad_end(14, "0").set(~length.is_in([8, 12, 14]), None)
    return _localized(full.str.to_datetime("%Y%m%d%H%M%S", time_unit="us", strict=False), zone)


def _of_form(column: pl.Series, form: str, zone: str) -> pl.Series:
    """Times of one form; `excel` and `days` count days of the local calendar."""
    if form in ("excel", "days"):
        days = column.cast(pl.Float64, strict=False)
        offset = (date(1970, 1, 1) - _EXCEL).days if form == "excel" else 0
        return _localized(
            ((days - offset) * 86_400_000).round().cast(pl.Int64).cast(pl.Datetime("ms")).cast(pl.Datetime("us")), zone
        )
    if form in (*UNITS, "ns"):
        whole = column.cast(pl.Int64, strict=False)
        number = (
            whole
            if whole.null_count() == column.null_count() and column.dtype != pl.Float64
            else column.cast(pl.Float64, strict=False)
        )
        micros = number * UNITS[form] if form in UNITS else number // 1000
        return micros.round().cast(pl.Int64, strict=False).cast(pl.Datetime("us", "UTC"))
    text = column.cast(pl.Int64).cast(pl.String) if column.dtype.is_numeric() else column.cast(pl.String)
    return _of_pattern(text, form, zone)


def _of_pattern(text: pl.Series, form: str, zone: str) -> pl.Series:
    """Times of a pattern as Python's strptime knows it: with any of its parts left out that a clock can do without."""
    if ",%f" in form:
        text, form = text.str.replace(",", ".", literal=True), form.replace(",%f", ".%f")
    form = form.replace(".%f", "%.f")
    if not re.search(r"%[djeuDFcs]", form):
        text, form = text + " 01", f"{form} %d"
    if not re.search(r"%[mbBhjVDFcs]", form):
        text, form = text + " 01", f"{form} %m"
    if re.search(r"%[HIkl]", form) and "%M" not in form:
        text, form = text + " 00", f"{form} %M"
    if not re.search(r"%[HIklTRXcrs]", form):
        return _localized(text.str.to_date(form, strict=False).cast(pl.Datetime("us")), zone)
    times = text.str.to_datetime(form, time_unit="us", strict=False)
    return times.dt.convert_time_zone("UTC") if times.dtype.time_zone else _localized(times, zone)  # type: ignore[attr-defined]


def _localized(naive: pl.Series, zone: str) -> pl.Series:
    """UTC times of a zone's clock: the first of two that autumn repeats, null for those that spring leaves out."""
    if zone == "UTC":
        return naive.dt.replace_time_zone("UTC")
    return naive.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")


def _zoned(form: str) -> Callable[[pl.Series, str], pl.Series]:
    return lambda text, _: text.str.to_datetime(form, time_unit="us", strict=False).dt.convert_time_zone("UTC")


def _plain(form: str) -> Callable[[pl.Series, str], pl.Series]:
    return lambda text, zone: _localized(text.str.to_datetime(form, time_unit="us", strict=False), zone)


def _date(form: str) -> Callable[[pl.Series, str], pl.Series]:
    return lambda text, zone: _localized(text.str.to_date(form, strict=False).cast(pl.Datetime("us")), zone)


def _of_decimals(text: pl.Series, zone: str) -> pl.Series:
    """Times of numbers with a fraction; those that a spreadsheet has rounded, such as 1.70E+09, are none."""
    is_rounded = text.str.contains(r"[eE]\+(0\d|1[0-4])$") & ~text.str.contains(r"^\d\.\d{8,}[eE]")
    return _of_numbers(text.set(is_rounded, None).cast(pl.Float64, strict=False), zone)


READERS: list[Callable[[pl.Series, str], pl.Series]] = [
    _zoned("%Y-%m-%dT%H:%M:%S%.f%#z"),
    _plain("%Y-%m-%d %H:%M:%S%.f"),
    _plain("%Y-%m-%dT%H:%M:%S%.f"),
    _zoned("%Y-%m-%d %H:%M:%S%.f%#z"),
    lambda text, _: text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f UTC", time_unit="us", strict=False).dt.replace_time_zone(
        "UTC"
    ),
    _date("%Y-%m-%d"),
    _of_decimals,
    partial(of_shapes, localized=_localized),
    _date("%G-W%V-%u"),
    lambda text, zone: _date("%Y-%j")(text.set(~text.str.contains(r"^\d{4}-\d{3}$"), None), zone),
]


def _excel(value: str) -> str:
    day = _EXCEL + timedelta(days=int(float(value)))
    return f"no epoch; an Excel day would be {day}: set {SETTING} = 'excel', or 'days' for days since 1970; a counter is no time"


HINTS: dict[str, Callable[[str], str]] = {
    r"(19|20|21)\d\d-?(0[1-9]|1[0-2])": lambda _: (
        f"a month without a day; set {SETTING} = '%Y%m' or '%Y-%m' to read its first"
    ),
    r"(19|20|21)\d\d(0[1-9]|1[0-2])\d{4}": lambda _: (
        f"an hour of a day, or epoch seconds; set {SETTING} = '%Y%m%d%H' or 's'"
    ),
    r"(3[3-9]|[4-7]\d)\d{3}(\.\d+)?": _excel,
    r"6[2-6]\d{16}": lambda _: ".NET ticks or epoch nanoseconds; write it as ISO 8601",
    r"-?\d+(\.\d+)?": lambda _: (
        f"no epoch of 1990 to 2200 and no calendar day, perhaps a counter; set {SETTING} if it is a time"
    ),
    r"-?\d(\.\d+)?[eE]\+?\d+": lambda _: "a rounded number; write all of its digits",
    r"\d{1,2}[-/ ]\d{1,2}[-/, ]+\d{4}.*": lambda _: (
        f"day or month may come first; set {SETTING}, such as '%d/%m/%Y' or '%m/%d/%Y'"
    ),
    r"\d{1,2}[-/. ]([A-Za-z]{3}|\d{1,2})[-/. ]+\d{2}\b.*": lambda _: (
        f"a year of two digits; set {SETTING}, such as '%d.%m.%y'"
    ),
    r".*\d\s*[A-Za-z]{3,5}": lambda _: "its zone has no single meaning; write an offset such as +01:00",
}
"""Patterns of times that are not read, each with the reason and the next step."""
