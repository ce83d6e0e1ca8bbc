"""A frame of one's own, polars or pandas, as a log that samples are built from."""

from typing import Any, Literal

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError

DIGITS: dict[Literal["s", "ms", "us"], int] = {"s": 11, "ms": 14, "us": 17}
"""Digits that a time in this unit stays below until the year 5138; numbers of more digits are nanoseconds."""


def log_of(
    frame: Any, *, user_id: str = "user_id", item_id: str = "item_id", timestamp: str = "timestamp"
) -> pl.DataFrame:
    """The columns user_id, item_id (text) and timestamp (microseconds, UTC) of a frame whose columns have other names.

    Times may be dates, moments in any unit (UTC where they name no zone), epoch numbers or ISO text; the size of an epoch
    number says whether it counts seconds, milliseconds, microseconds or nanoseconds.

    >>> frame = pl.DataFrame({"kunde": [7], "artikel": [41], "zeit_ms": [1_700_000_000_000]})
    >>> log_of(frame, user_id="kunde", item_id="artikel", timestamp="zeit_ms").row(0)[:2]
    ('7', '41')

    Raises:
        DataError: a column is missing, a value in it is, or its times cannot be read.
    """
    table = pl.DataFrame(frame)
    names = {schema.USER_ID: user_id, schema.ITEM_ID: item_id, schema.TIMESTAMP: timestamp}
    for name in names.values():
        if name not in table.columns:
            raise DataError(f"the frame has no column '{name}', it has {', '.join(table.columns)}; name the right one")
        if nulls := table[name].null_count():
            raise DataError(f"{nulls} of {len(table)} rows have no '{name}'; drop these rows")
    return table.select(
        pl.col(user_id).cast(pl.String).alias(schema.USER_ID),
        pl.col(item_id).cast(pl.String).alias(schema.ITEM_ID),
        _moments(table[timestamp]).alias(schema.TIMESTAMP),
    )


def _moments(times: pl.Series) -> pl.Series:
    """Times as moments in UTC, in microseconds."""
    try:
        if times.dtype.is_numeric():
            largest = int(times.abs().max() or 0)  # type: ignore[arg-type]
            unit = next((unit for unit, digits in DIGITS.items() if largest < 10**digits), None)
            times = pl.from_epoch(times, time_unit=unit or "ns")
        elif times.dtype == pl.String:
            times = times.str.to_datetime(time_unit="us", time_zone="UTC")
        moments = times.cast(pl.Datetime("us", getattr(times.dtype, "time_zone", None)))
    except (pl.exceptions.PolarsError, OverflowError) as error:
        line = str(error).splitlines()[0]
        raise DataError(f"column '{times.name}' cannot be read as times: {line}; convert it to datetimes") from error
    return moments.dt.convert_time_zone("UTC") if moments.dtype.time_zone else moments.dt.replace_time_zone("UTC")  # type: ignore[attr-defined]
