from datetime import UTC, date, datetime

import pandas as pd
import polars as pl
import pytest

from dealrec_core.errors import DataError
from dealrec_core.ingest.frames import log_of

NOON = datetime(2023, 11, 14, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "times",
    [
        [1_699_963_200],
        [1_699_963_200_000],
        [1_699_963_200_000_000],
        [1_699_963_200_000_000_000],
        [20231114120000],
        ["2023-11-14T12:00:00Z"],
        [NOON],
        [NOON.replace(tzinfo=None)],
    ],
)
def test_a_time_in_any_common_form_is_the_same_moment(times):
    log = log_of(pl.DataFrame({"user_id": [1], "item_id": ["a"], "timestamp": times}))
    assert log.row(0) == ("1", "a", NOON)


def test_another_zone_and_a_date_become_utc():
    frame = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "day": [date(2023, 11, 14)]})
    assert log_of(frame, timestamp="day")["timestamp"][0] == NOON.replace(hour=0)
    berlin = frame.with_columns(timestamp=pl.lit(NOON).dt.convert_time_zone("Europe/Berlin"))
    assert log_of(berlin)["timestamp"][0] == NOON


def test_a_pandas_frame_with_other_names_is_read():
    frame = pd.DataFrame({"kunde": [1], "artikel": [2], "zeit": pd.to_datetime(["2023-11-14 12:00"])})
    assert log_of(frame, user_id="kunde", item_id="artikel", timestamp="zeit").row(0) == ("1", "2", NOON)


def test_what_cannot_be_read_is_named():
    frame = pl.DataFrame({"user_id": ["u", None], "item_id": ["a", "b"], "timestamp": ["soon", "later"]})
    with pytest.raises(DataError, match="has no column 'user', it has user_id, item_id, timestamp"):
        log_of(frame, user_id="user")
    with pytest.raises(DataError, match="1 of 2 rows have no 'user_id'; drop these rows"):
        log_of(frame)
    with pytest.raises(
        DataError, match="column 'timestamp': 1 of 1 rows cannot be read as times: unreadable timestamp 'soon'"
    ):
        log_of(frame.drop_nulls())
