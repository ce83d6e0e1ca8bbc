from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.samples import sequences


def samples(*rows: tuple[str, list[str]]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "sample_id": [str(n) for n in range(len(rows))],
            "user_id": ["u"] * len(rows),
            "item_id": [target for target, _ in rows],
            "timestamp": [datetime(2026, 1, 1, tzinfo=UTC)] * len(rows),
            "history": [history for _, history in rows],
        },
        schema=schema.SAMPLES,
    )


def test_items_are_numbered_by_their_place_in_the_catalogue():
    found = sequences.encode(samples(("c", ["a", "b"]), ("a", ["c"])), ["a", "b", "c"])
    assert found.items.tolist() == [0, 1, 2]
    assert found.offsets.tolist() == [0, 2, 3]
    assert found.targets.tolist() == [2, 0]


def test_an_item_outside_the_catalogue_is_named():
    with pytest.raises(DataError, match="item 'x'"):
        sequences.encode(samples(("a", ["x"])), ["a"])


def test_an_empty_history_is_refused():
    with pytest.raises(DataError, match="empty history"):
        sequences.encode(samples(("a", ["a"]), ("a", [])), ["a"])


def test_batches_hold_one_length_each_and_every_row_once():
    found = sequences.encode(samples(("a", ["a", "b"]), ("b", ["a"]), ("a", ["b", "b"]), ("b", ["b"])), ["a", "b"])
    batches = list(found.batches(max_tokens=2))
    assert [rows.tolist() for rows, _, _ in batches] == [[1, 3], [0], [2]]
    assert [tuple(items.shape) for _, items, _ in batches] == [(2, 1), (1, 2), (1, 2)]
    assert batches[2][1].tolist() == [[1, 1]]


def test_taking_rows_keeps_their_order_and_content():
    found = sequences.encode(samples(("a", ["a", "b"]), ("b", ["a"]), ("a", ["b"])), ["a", "b"]).take(np.array([2, 0]))
    assert found.items.tolist() == [1, 0, 1]
    assert found.offsets.tolist() == [0, 1, 3]
    assert found.targets.tolist() == [0, 0]
