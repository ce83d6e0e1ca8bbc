from datetime import UTC, datetime

import polars as pl

from dealrec_core import schema
from dealrec_core.samples import items


def test_items_come_in_the_order_in_which_they_were_first_taken_and_the_unseen_last():
    log = pl.DataFrame(
        {
            "item_id": ["b", "a", "b"],
            "timestamp": [datetime(2026, 1, day, tzinfo=UTC) for day in (2, 3, 4)],
        },
        schema={"item_id": pl.String, "timestamp": schema.UTC_TIME},
    )
    known = pl.DataFrame(
        {
            "item_id": ["c", "a", "b"],
            "title": ["C", " ", "Same"],
            "categories": [None, ["x"], []],
            "file": [""] * 3,
            "row": [1, 2, 3],
        },
        schema=schema.ITEMS,
    )
    found = items.catalogue(known, log)
    assert found.item_ids == ["b", "a", "c"]
    assert found.titles == ["Same", "a", "C"]
    assert found.categories == [[], ["x"], []]
    assert found.place["c"] == 2


def test_interactions_are_counted_most_first_and_equal_numbers_by_id():
    log = pl.LazyFrame({"item_id": ["b", "c", "a", "b"]})
    assert list(items.interaction_counts(log).items()) == [("b", 2.0), ("a", 1.0), ("c", 1.0)]


def test_targets_are_numbered_by_their_place():
    assert items.numbers(pl.DataFrame({"item_id": ["c", "a"]}), ["a", "b", "c"]).tolist() == [2, 0]
