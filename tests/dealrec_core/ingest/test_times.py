"""Times of every written form. docs/forms.py writes the table in docs/lake.md from READ."""

import re
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as some

from dealrec_core.ingest import times

TEN = datetime(2024, 1, 31, 10, tzinfo=UTC)
READ = {
    "1706695200": TEN,
    "1706695200000": TEN,
    "1706695200000000": TEN,
    "1706695200000000000": TEN,
    "1706695200.25": TEN.replace(microsecond=250_000),
    "1.7066952E9": TEN,
    "20240131": TEN.replace(hour=0),
    "202401311000": TEN,
    "20240131100000": TEN,
    "20240131T100000Z": TEN,
    "2024-01-31": TEN.replace(hour=0),
    "2024-01-31 10:00": TEN,
    "2024-01-31T10:00:00Z": TEN,
    "2024-01-31 10:00:00,123": TEN.replace(microsecond=123_000),
    "2024-01-31 10:00:00.1234567": TEN.replace(microsecond=123_456),
    "2024-01-31 10:00:00 UTC": TEN,
    "2024-01-31 11:00:00+01": TEN,
    "2024-01-31T11:00:00+0100": TEN,
    "2024-01-31T11:00:00+01:00[Europe/Berlin]": TEN,
    "2024-01-31 10:00:00 +0000 UTC": TEN,
    "2024/1/31 10:00": TEN,
    "2024.01.31 10:00:00": TEN,
    "2024年1月31日 10:00": TEN,
    "31.01.2024 10:00": TEN,
    "31/01/2024 10:00": TEN,
    "1/31/2024 10:00:00 AM": TEN,
    "31-Jan-2024 10:00": TEN,
    "31 January 2024, 10:00": TEN,
    "Jan 31, 2024 10:00 am": TEN,
    "31/Jan/2024:11:00:00 +0100": TEN,
    "Wed, 31 Jan 2024 10:00:00 GMT": TEN,
    "Wed Jan 31 10:00:00 2024": TEN,
    "Wed Jan 31 10:00:00 +0000 2024": TEN,
    "Wed Jan 31 2024 11:00:00 GMT+0100 (Central European Standard Time)": TEN,
    "2024-W05-3": TEN.replace(hour=0),
    "2024-031": TEN.replace(hour=0),
}
REFUSED = {
    "1/2/2024 10:00": "day or month may come first; set .*timestamp_format",
    "01-02-2024": "day or month may come first",
    "31.01.24": "a year of two digits",
    "31-JAN-24": "a year of two digits",
    "2032013110": "an hour of a day, or epoch seconds",
    "202401": "a month without a day",
    "2024-01": "a month without a day",
    "45322": "an Excel day would be 2024-01-31: set .*'excel'",
    "45322.5": "an Excel day would be 2024-01-31",
    "738521": "no epoch of 1990 to 2200 and no calendar day, perhaps a counter",
    "90000": "perhaps a counter",
    "0": "perhaps a counter",
    "-62135596800": "no epoch",
    "638423208000000000": ".NET ticks",
    "1.70670E+09": "a rounded number",
    "20240230": "no calendar day",
    "2024-02-30": "dealrec reads epoch seconds to nanoseconds",
    "2024-01-31 13:00 PM": "dealrec reads",
    "2024-01-31 10:00 CET": "its zone has no single meaning",
    "soon": "unreadable timestamp 'soon'; dealrec reads epoch .*; set sources.interactions.timestamp_format",
}


def read(text: str, **options: str) -> datetime | None:
    return times.utc_times(pl.Series("t", [text, "no time"]), **options).to_list()[0]


@pytest.mark.parametrize("text", READ)
def test_a_form_with_one_meaning_is_read(text):
    assert read(text) == READ[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_has_none_or_two_meanings_is_refused_with_what_to_do(text):
    assert read(text) is None
    assert re.search(REFUSED[text], times.why(text, None))


@pytest.mark.parametrize("kind", [pl.Int32, pl.Int64, pl.Float64, pl.Decimal(20, 0), pl.String])
def test_a_calendar_day_is_the_same_in_every_type(kind):
    days = pl.Series("t", [20240131, 20241231]).cast(kind)
    assert times.utc_times(days).to_list() == [datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 12, 31, tzinfo=UTC)]


@given(number=some.integers(-(10**19), 10**19))
def test_no_number_is_a_time_before_1990(number):
    result = times.utc_times(pl.Series("t", [number], dtype=pl.Int128).cast(pl.String)).item()
    assert result is None or result.year >= 1990 or str(number).startswith("19")


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("01/02/2024 10:00", "%d/%m/%Y %H:%M", datetime(2024, 2, 1, 10, tzinfo=UTC)),
        ("11/12/2019 6:11:30 PM", "%m/%d/%Y %I:%M:%S %p", datetime(2019, 11, 12, 18, 11, 30, tzinfo=UTC)),
        ("01.02.24", "%d.%m.%y", datetime(2024, 2, 1, tzinfo=UTC)),
        ("2024-02", "%Y-%m", datetime(2024, 2, 1, tzinfo=UTC)),
        ("2024020110", "%Y%m%d%H", datetime(2024, 2, 1, 10, tzinfo=UTC)),
        ("2024-02-01 10:00:00.5", "%Y-%m-%d %H:%M:%S.%f", datetime(2024, 2, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("45322.5", "excel", datetime(2024, 1, 31, 12, tzinfo=UTC)),
        ("19753", "days", datetime(2024, 1, 31, tzinfo=UTC)),
        ("1706695200", "s", TEN),
        ("1706695200000000000", "ns", TEN),
    ],
)
def test_a_form_from_the_settings_is_read(text, form, expected):
    assert read(text, form=form) == expected


def test_local_times_have_the_zone_of_the_settings_and_others_keep_theirs():
    berlin = {"zone": "Europe/Berlin"}
    assert read("2024-01-31 00:30", **berlin) == datetime(2024, 1, 30, 23, 30, tzinfo=UTC)
    assert read("20240731", **berlin) == datetime(2024, 7, 30, 22, tzinfo=UTC)
    assert read("2024-01-31T10:00:00Z", **berlin) == read("1706695200", **berlin) == TEN
    assert read("2024-10-27 02:30", **berlin) == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)  # the first of two
    assert read("2024-03-31 02:30", **berlin) is None  # spring leaves it out
