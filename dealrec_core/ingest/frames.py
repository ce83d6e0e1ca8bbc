"""A frame of one's own, polars or pandas, as a log that samples are built from."""

from typing import Any

import polars as pl

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.ingest import times


def log_of(
    frame: Any, *, user_id: str = "user_id", item_id: str = "item_id", timestamp: str = "timestamp"
) -> pl.DataFrame:
    """The columns user_id, item_id (text) and timestamp (microseconds, UTC) of a frame whose columns have other names.

    Times may be dates, moments (UTC where they name no zone), epoch numbers in any unit, or text in the forms of docs/lake.md: they
    are read as an ingest reads them.

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


def _moments(column: pl.Series) -> pl.Series:
    """Times as moments in UTC, in microseconds."""
    moments = times.utc_times(column)
    if unreadable := moments.null_count():
        example = times.why(str(column.filter(moments.is_null())[0]), None)
        raise DataError(
            f"column '{column.name}': {unreadable} of {len(column)} rows cannot be read as times: {example}"
        )
    return moments
