from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.samples import split
from dealrec_core.samples.split import Boundaries
from dealrec_core.settings.samples import SamplesConfig

START = datetime(2026, 1, 1, tzinfo=UTC)


def log(*events: tuple[str, str, int]) -> pl.LazyFrame:
    return pl.LazyFrame(
        {
            "user_id": [user for user, _, _ in events],
            "item_id": [item for _, item, _ in events],
            "timestamp": [START + timedelta(hours=hour) for _, _, hour in events],
            "event_id": [str(place) for place in range(len(events))],
        },
        schema_overrides={"timestamp": schema.UTC_TIME},
    )


def bounds(validation: int, test: int, end: int) -> Boundaries:
    return Boundaries(
        validation_start=START + timedelta(hours=validation),
        test_start=START + timedelta(hours=test),
        end=START + timedelta(hours=end),
    )


LOG = log(("u", "a", 0), ("v", "x", 1), ("u", "b", 2), ("u", "c", 3), ("v", "y", 4), ("u", "d", 5))


def test_every_event_with_a_past_is_a_sample_with_its_history_oldest_first():
    found = split.build(LOG, SamplesConfig())
    assert list(zip(found["user_id"], found["history"].to_list(), found["item_id"], strict=True)) == [
        ("u", ["a"], "b"),
        ("u", ["a", "b"], "c"),
        ("u", ["a", "b", "c"], "d"),
        ("v", ["x"], "y"),
    ]


def test_a_history_holds_the_newest_items_only():
    found = split.build(LOG, SamplesConfig(history_length=2))
    assert found["history"].to_list() == [["a"], ["a", "b"], ["b", "c"], ["x"]]


def test_the_order_of_rows_makes_no_difference():
    shuffled = LOG.collect().sample(fraction=1, shuffle=True, seed=1).lazy()
    assert split.build(shuffled, SamplesConfig()).equals(split.build(LOG, SamplesConfig()))


def test_the_id_depends_on_user_target_and_time_alone():
    longer = log(("u", "new", -1), ("u", "a", 0), ("u", "b", 2))
    ids = set(split.build(LOG, SamplesConfig())["sample_id"])
    later = split.build(longer, SamplesConfig()).filter(item_id="b")["sample_id"][0]
    assert later in ids
    assert len(ids) == 4


def test_two_events_of_one_user_item_and_moment_have_two_ids():
    found = split.build(log(("u", "a", 0), ("u", "b", 1), ("u", "b", 1)), SamplesConfig())
    assert found["sample_id"].n_unique() == 2


def test_a_log_without_a_second_event_gives_no_sample():
    assert split.build(log(("u", "a", 0), ("v", "a", 1)), SamplesConfig()).is_empty()


def test_slices_follow_global_time():
    found = split.build(LOG, SamplesConfig())
    at = bounds(3, 5, 6)
    assert split.split(found.lazy(), at, "train").collect()["item_id"].to_list() == ["b"]
    assert split.split(found.lazy(), at, "validation").collect()["item_id"].to_list() == ["c", "y"]
    assert split.split(found.lazy(), at, "test").collect()["item_id"].to_list() == ["d"]


def test_in_last_mode_a_slice_holds_the_newest_sample_of_each_user():
    found = split.build(LOG, SamplesConfig())
    assert set(split.split(found.lazy(), bounds(5, 6, 7), "train", "last").collect()["item_id"]) == {"c", "y"}


def test_boundaries_leave_the_configured_shares():
    ten = log(*[("u", str(hour), hour) for hour in range(10)])
    found = split.boundaries(ten, SamplesConfig(validation_fraction=0.2, test_fraction=0.2), not_before=None)
    assert found.validation_start == START + timedelta(hours=6)
    assert found.test_start == START + timedelta(hours=8)
    assert found.end > START + timedelta(hours=9)


def test_the_test_slice_never_starts_before_what_the_champion_has_learned():
    ten = log(*[("u", str(hour), hour) for hour in range(10)])
    found = split.boundaries(ten, SamplesConfig(), not_before=START + timedelta(hours=9, minutes=-1))
    assert found.test_start == START + timedelta(hours=9)


def test_events_of_one_moment_stay_together():
    tied = log(("u", "a", 0), ("u", "b", 1), *[("u", str(item), 2) for item in range(8)])
    found = split.boundaries(tied, SamplesConfig(validation_fraction=0.3, test_fraction=0.3), not_before=None)
    assert (found.validation_start, found.test_start) == (START + timedelta(hours=1), START + timedelta(hours=2))


def test_a_log_of_two_moments_cannot_be_split():
    with pytest.raises(DataError, match="2 distinct moments"):
        split.boundaries(log(("u", "a", 0), ("u", "b", 1)), SamplesConfig(), not_before=None)


def test_a_case_has_the_past_before_the_test_slice_and_all_targets_in_it():
    found = split.cases(LOG, bounds(2, 3, 6), history_length=1, users=None, seed=0)
    assert found.to_dicts() == [
        {"user_id": "u", "history": ["b"], "targets": ["c", "d"]},
        {"user_id": "v", "history": ["x"], "targets": ["y"]},
    ]


def test_so_many_users_are_drawn_and_the_same_ones_for_the_same_seed():
    many = log(*[(f"u{user:02d}", str(hour), hour) for user in range(20) for hour in (0, 9)])
    draws = [
        split.cases(many, bounds(1, 5, 10), history_length=5, users=6, seed=seed)["user_id"].to_list()
        for seed in (0, 0, 1)
    ]
    assert len(draws[0]) == 6
    assert draws[0] == draws[1] != draws[2]


def test_no_user_on_both_sides_is_an_error_with_the_next_step():
    with pytest.raises(DataError, match=r"no user has events both before and after .*raise samples.test_fraction"):
        split.cases(log(("u", "a", 0), ("v", "b", 5)), bounds(1, 3, 6), history_length=5, users=None, seed=0)


def test_the_latest_share_by_hand():
    days = [3, 1, 2, 2, 1]
    frame = pl.DataFrame({"sample_id": list("abcde"), "timestamp": [START + timedelta(days=day) for day in days]})
    assert split.latest(frame, 0.4)["sample_id"].to_list() == ["a", "d"]  # 2 of 5; c and d share a day
    assert split.latest(frame, 0.01)["sample_id"].to_list() == ["a"]
    assert split.latest(frame, 1.0)["sample_id"].to_list() == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("mode", ["sliding", "last"])
def test_the_counts_are_those_of_the_slices(mode):
    moments = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 1, 2, 3, 3, 4)]
    keys = {schema.SAMPLE_ID: list("abcdef"), schema.USER_ID: list("uuvuuv"), schema.TIMESTAMP: moments}
    table = pl.DataFrame(keys).lazy()
    bounds = Boundaries(validation_start=moments[3], test_start=moments[5], end=datetime(2024, 1, 5, tzinfo=UTC))
    sizes = {which: len(split.split(table, bounds, which, mode).collect()) for which in split.SPLITS}
    assert split.counts(table, bounds, mode) == sizes


def test_only_a_user_with_a_past_can_be_held_out():
    late = log(("u", "a", 0), ("v", "x", 1), ("u", "b", 2))  # nobody has an event from hour 3 on
    assert split.any_held_out(LOG, bounds(1, 3, 6))
    assert not split.any_held_out(late, bounds(1, 3, 3))
    assert not split.any_held_out(log(("u", "a", 0), ("new", "x", 4), ("new", "y", 5)), bounds(1, 3, 6))
