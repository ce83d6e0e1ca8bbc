from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from dealrec_core import schema
from dealrec_core.samples.histories import IS_NEW, Histories

START = datetime(2026, 1, 1, tzinfo=UTC)


def log(*events: tuple[str, str, int], new: list[bool] | None = None) -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "user_id": [user for user, _, _ in events],
            "item_id": [item for _, item, _ in events],
            "timestamp": [START + timedelta(hours=hour) for _, _, hour in events],
            "event_id": pl.Series([None] * len(events), dtype=pl.String),
        },
        schema_overrides={"timestamp": schema.UTC_TIME},
    )
    return frame if new is None else frame.with_columns(pl.Series(IS_NEW, new))


def pairs(frame: pl.DataFrame) -> list[tuple[list[str], str]]:
    return list(zip(frame["history"].to_list(), frame["item_id"], strict=True))


def test_histories_go_on_from_call_to_call():
    histories = Histories(2)
    assert pairs(histories.samples(log(("u", "a", 0), ("v", "x", 0), ("u", "b", 1)))) == [(["a"], "b")]
    samples = histories.samples(log(("v", "y", 2), ("u", "c", 2), ("u", "d", 3)))
    assert sorted(pairs(samples)) == [(["a", "b"], "c"), (["b", "c"], "d"), (["x"], "y")]


def test_a_late_event_changes_as_many_later_samples_as_a_history_is_long():
    events = [("u", name, hour) for hour, name in enumerate("abcde")]
    is_new = [name == "b" for _, name, _ in events]
    samples = Histories(2).samples(log(*events, new=is_new))
    assert pairs(samples) == [(["a"], "b"), (["a", "b"], "c"), (["b", "c"], "d")]


def test_a_late_event_changes_samples_of_later_calls_too():
    histories = Histories(2)
    first = histories.samples(log(("u", "a", 0), ("u", "b", 1), new=[False, True]))
    second = histories.samples(log(*[("u", name, hour) for hour, name in enumerate("cde", 2)], new=[False] * 3))
    assert pairs(first) == [(["a"], "b")]
    assert pairs(second) == [(["a", "b"], "c"), (["b", "c"], "d")]


def test_an_event_before_the_first_makes_a_sample_of_that():
    samples = Histories(5).samples(log(("u", "a", 0), ("u", "b", 1), new=[True, False]))
    assert pairs(samples) == [(["a"], "b")]


def test_events_of_one_moment_come_by_item_whatever_the_order_of_rows():
    forward, backward = ("u", "a", 0), ("u", "b", 0)
    assert pairs(Histories(5).samples(log(backward, forward))) == [(["a"], "b")]


def test_events_of_one_moment_keep_the_order_of_their_file():
    events = [("u", name, 0) for name in "cab"] + [("u", "c", 0)]
    ordered = log(*events).with_columns(pl.lit("f").alias("file"), pl.Series("row", [1, 2, 3, 9]))
    samples = Histories(5).samples(ordered.sort("item_id"))
    assert pairs(samples) == [(["c"], "a"), (["c", "a"], "b"), (["c", "a", "b"], "c")]
    assert samples["sample_id"].is_unique().all()


EVENTS = st.lists(
    st.tuples(st.sampled_from("uvw"), st.sampled_from("abcd"), st.integers(0, 6)), min_size=1, max_size=30
)


@given(events=EVENTS, length=st.integers(1, 4), data=st.data())
@settings(max_examples=150, deadline=None)
def test_samples_after_new_events_are_those_of_a_full_build(events, length, data):
    is_new = data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events)))
    old = [event for event, new in zip(events, is_new, strict=True) if not new]
    before = _keyed(Histories(length).samples(log(*old))) if old else {}
    changed = _keyed(Histories(length).samples(log(*events, new=is_new)))
    assert before | changed == _keyed(Histories(length).samples(log(*events)))


@given(events=EVENTS, length=st.integers(1, 4), cut=st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_two_calls_in_order_of_time_make_what_one_call_makes(events, length, cut):
    early, late = ([event for event in events if (event[2] < cut) == is_early] for is_early in (True, False))
    histories = Histories(length)
    parts = [histories.samples(log(*part)) for part in (early, late) if part]
    assert _keyed(pl.concat(parts)) == _keyed(Histories(length).samples(log(*events)))


def _keyed(frame: pl.DataFrame) -> dict[str, list[str]]:
    assert frame["sample_id"].is_unique().all()
    return dict(zip(frame["sample_id"], frame["history"].to_list(), strict=True))
