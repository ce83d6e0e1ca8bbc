"""Which samples are the risk."""

from datetime import UTC, datetime

import polars as pl

from tasks import carried


def test_the_latest_share_by_hand() -> None:
    days = [3, 1, 2, 2, 1]
    frame = pl.DataFrame(
        {"sample_id": ["a", "b", "c", "d", "e"], "timestamp": [datetime(2024, 1, day, tzinfo=UTC) for day in days]}
    )
    assert carried.latest(frame, 0.4)["sample_id"].to_list() == ["a", "d"]  # 2 of 5; c and d share a day
    assert carried.latest(frame, 0.01)["sample_id"].to_list() == ["a"]
    assert carried.latest(frame, 1.0)["sample_id"].to_list() == ["a", "b", "c", "d", "e"]
