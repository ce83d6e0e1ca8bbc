"""Samples (history, next item) of a log, split by global time."""

import math
from datetime import datetime
from typing import Literal

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from dealrec_core import schema
from dealrec_core.errors import DataError
from dealrec_core.samples.histories import Histories, of_a_moment
from dealrec_core.settings.samples import SamplesConfig

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Boundaries(BaseModel):
    """Moments (UTC) that split a log: train < validation_start <= validation < test_start <= test < end."""

    model_config = ConfigDict(frozen=True)

    validation_start: datetime
    test_start: datetime
    end: datetime


def boundaries(interactions: pl.LazyFrame, config: SamplesConfig, *, not_before: datetime | None = None) -> Boundaries:
    """The moments that leave the configured shares of the log to validation and test (8:1:1 in the paper, section 4.1).

    Events of one moment stay together, on the later side. not_before: the test slice does not start earlier than this, so
    that a champion is never evaluated on events that it has learned from.

    Raises:
        DataError: the log has too few distinct moments to be split.
    """
    times = interactions.select(schema.TIMESTAMP).collect()[schema.TIMESTAMP]
    moments = times.to_physical().to_numpy()
    earliest = _earliest(moments, 3)
    if len(earliest) < 3:
        raise DataError(
            f"{len(earliest)} distinct moments in the log, at least 3 are needed to split it; wait for more data"
        )
    shares = (1 - config.test_fraction, 1 - config.test_fraction - config.validation_fraction)
    places = [int(len(moments) * share) for share in shares]
    ordered = np.partition(moments, places)
    test, validation = (int(ordered[place]) for place in places)
    if not_before is not None:
        test = max(test, int(pl.Series([not_before]).cast(schema.UTC_TIME).to_physical()[0]))
    test = max(test, earliest[2])
    validation = min(max(validation, earliest[1]), int(moments[moments < test].max()))
    starts = pl.Series([validation, test, int(moments.max()) + 1]).cast(schema.UTC_TIME).to_list()
    return Boundaries(validation_start=starts[0], test_start=starts[1], end=starts[2])


def _earliest(moments: np.ndarray, count: int) -> list[int]:
    """The first distinct moments, at most `count`."""
    earliest: list[int] = []
    while len(moments) and len(earliest) < count:
        earliest.append(int(moments.min()))
        moments = moments[moments > earliest[-1]]
    return earliest


def build(interactions: pl.LazyFrame, config: SamplesConfig) -> pl.DataFrame:
    """Every sample of the log (SAMPLES), by user, then time.

    A user's first event has no history and gives no sample. In `last` mode the split keeps one sample per user.
    """
    names = [*of_a_moment(interactions.collect_schema().names()), schema.USER_ID, schema.TIMESTAMP]
    log = interactions.select(names).collect()
    return Histories(config.history_length).samples(log.sort(schema.USER_ID))


def split(
    samples: pl.LazyFrame, bounds: Boundaries, which: Split, mode: Literal["sliding", "last"] = "sliding"
) -> pl.LazyFrame:
    """The samples whose target falls into one slice; in `last` mode only each user's newest sample of the slice.

    >>> from datetime import UTC
    >>> day = lambda number: datetime(2026, 1, number, tzinfo=UTC)
    >>> samples = pl.LazyFrame({"sample_id": ["s", "t", "u"], "timestamp": [day(1), day(2), day(3)]})
    >>> bounds = Boundaries(validation_start=day(2), test_start=day(3), end=day(4))
    >>> [split(samples, bounds, which).collect()["sample_id"].to_list() for which in SPLITS]
    [['s'], ['t'], ['u']]
    """
    in_slice = samples.filter(_inside(bounds, which))
    if mode == "sliding":
        return in_slice
    newest = in_slice.sort(schema.TIMESTAMP, schema.SAMPLE_ID).group_by(schema.USER_ID, maintain_order=True).last()
    return newest.select(samples.collect_schema().names())


def counts(samples: pl.LazyFrame, bounds: Boundaries, mode: Literal["sliding", "last"]) -> dict[str, int]:
    """The number of samples in each slice, in one pass over two columns."""
    inside = {which: _inside(bounds, which) for which in SPLITS}
    users = pl.col(schema.USER_ID)
    numbers = [
        (where.sum() if mode == "sliding" else users.filter(where).n_unique()).alias(which)
        for which, where in inside.items()
    ]
    row = samples.select(numbers).collect(engine="streaming").row(0)
    return dict(zip(SPLITS, map(int, row), strict=True))


def _inside(bounds: Boundaries, which: Split) -> pl.Expr:
    """Whether a moment lies in a slice."""
    start, end = {
        "train": (None, bounds.validation_start),
        "validation": (bounds.validation_start, bounds.test_start),
        "test": (bounds.test_start, bounds.end),
    }[which]
    before_end = pl.col(schema.TIMESTAMP) < end
    return before_end if start is None else before_end & (pl.col(schema.TIMESTAMP) >= start)


def latest(samples: pl.DataFrame, share: float) -> pl.DataFrame:
    """The most recent share of the samples, rounded up, sorted by sample_id; of equal times the higher ids first."""
    count = math.ceil(share * len(samples))
    return samples.sort(schema.TIMESTAMP, schema.SAMPLE_ID).tail(count).sort(schema.SAMPLE_ID)


def cases(
    interactions: pl.LazyFrame, bounds: Boundaries, *, history_length: int, users: int | None, seed: int
) -> pl.DataFrame:
    """Held-out users: user_id, history (before the test slice, oldest first) and targets (distinct, in it), by user_id.

    Only users with an event on both sides count. users: the largest number of users; more are reduced by a random draw.

    Raises:
        DataError: no user has events on both sides.
    """
    is_past = pl.col(schema.TIMESTAMP) < bounds.test_start
    is_test = (pl.col(schema.TIMESTAMP) >= bounds.test_start) & (pl.col(schema.TIMESTAMP) < bounds.end)
    earlier, later = (interactions.filter(when).select(schema.USER_ID).unique() for when in (is_past, is_test))
    held_out = later.join(earlier, on=schema.USER_ID, how="semi").sort(schema.USER_ID).collect()
    if held_out.is_empty():
        raise DataError(
            f"no user has events both before and after {bounds.test_start}; raise samples.test_fraction or wait for more data"
        )
    # Drawn before their events are sorted: the whole log is never sorted for a few users.
    chosen = drawn(held_out, users, np.random.default_rng(seed)).lazy()
    ties = of_a_moment(interactions.collect_schema().names())
    log = interactions.join(chosen, on=schema.USER_ID, how="semi").sort(schema.USER_ID, schema.TIMESTAMP, *ties)
    past = log.filter(is_past).group_by(schema.USER_ID, maintain_order=True)
    future = log.filter(is_test).group_by(schema.USER_ID, maintain_order=True)
    return (
        past.agg(pl.col(schema.ITEM_ID).tail(history_length).alias(schema.HISTORY))
        .join(future.agg(pl.col(schema.ITEM_ID).unique(maintain_order=True).alias("targets")), on=schema.USER_ID)
        .sort(schema.USER_ID)
        .collect()
    )


def any_held_out(interactions: pl.LazyFrame, bounds: Boundaries) -> bool:
    """Whether a user has events both before and in the test slice."""
    times = pl.col(schema.TIMESTAMP)
    users = interactions.group_by(schema.USER_ID).agg(times.min().alias("first"), times.max().alias("last"))
    both = (pl.col("first") < bounds.test_start) & (pl.col("last") >= bounds.test_start)
    return bool(users.select(both.any()).collect(engine="streaming").item())


def kept_back() -> pl.Expr:
    """Whether a sample is among the half, by its id, that no model learns while it stands in a held-out slice.

    Nights choose epochs on these: on samples that the champion has learnt, nothing would be better than the champion.

    >>> pl.DataFrame({"sample_id": ["2e1", "b7f", "697", "478"]}).filter(kept_back())["sample_id"].to_list()
    ['b7f', '478']
    """
    return pl.col(schema.SAMPLE_ID).str.slice(-1).is_in(list("89abcdef"))


def drawn(frame: pl.DataFrame, most: int | None, random: np.random.Generator) -> pl.DataFrame:
    """At most `most` rows, drawn without replacement and in their own order; all of them for None."""
    if most is None or len(frame) <= most:
        return frame
    return frame[np.sort(random.choice(len(frame), most, replace=False))]
